//! An idempotent producer with several requests under way.

use std::collections::BTreeMap;

use oncelog_wire::{ErrorCode, TopicPartition, init_producer_id, produce};

use super::{Batch, Client, Identity};
use crate::history::Written;
use crate::world::Phase;

/// As many requests Kafka's own client has under way at most; so many batches the broker remembers.
const MOST_UNDER_WAY: u64 = 5;

/// Writes until the storm ends, then sees to it that all it has written is acknowledged.
pub async fn run(mut client: Client, places: Vec<TopicPartition>) {
    let session = client.world.change().history.new_session();
    let Some(identity) = identity(&mut client).await else { return };
    let mut sequences: BTreeMap<TopicPartition, i32> = BTreeMap::new();
    while client.phase() == Phase::Storm {
        let place = {
            let mut world = client.world.change();
            places[world.random.below(places.len() as u64) as usize].clone()
        };
        let sequence = sequences.entry(place.clone()).or_insert(0);
        let mut batches = Vec::new();
        // A broker that knows nothing of a producer takes any batch for its first, so that one goes alone.
        let most = if *sequence == 0 { 1 } else { MOST_UNDER_WAY };
        let under_way = client.world.within(1..most + 1);
        for _ in 0..under_way {
            let mut world = client.world.change();
            let count = world.random.within(1..4);
            let new = |_| world.history.new_record(&place, session, Written::Once, None);
            let records: Vec<_> = (0..count).map(new).collect();
            drop(world);
            batches.push(Batch::new(&client.world, &place, records, identity, *sequence, false));
            *sequence += count as i32;
        }
        if !write_all(&mut client, batches).await {
            return;
        }
        client.world.sleep_within(1..400).await;
    }
}

async fn identity(client: &mut Client) -> Option<Identity> {
    loop {
        let request = init_producer_id::Request {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let answer = client.ask(4, &request).await.answer;
        match answer.error_code {
            ErrorCode::None => {
                return Some(Identity { id: answer.producer_id, epoch: answer.producer_epoch });
            }
            code if client.may_pass(code) => client.back_off().await,
            _ => return None,
        }
    }
}

/// Sends batches one right after the other; what is not acknowledged is sent again, in order, one by one.
async fn write_all(client: &mut Client, batches: Vec<Batch>) -> bool {
    let slots: Vec<_> = batches
        .iter()
        .map(|batch| {
            let request = batch.request(&client.world, None);
            client.send::<produce::Request>(9, &request)
        })
        .collect();
    let mut left = Vec::new();
    let mut is_first = true;
    for (batch, slot) in batches.into_iter().zip(slots) {
        let answer = match slot {
            Ok(slot) => client.receive::<produce::Request>(9, slot).await,
            Err(lost) => Err(lost),
        };
        let code = answer.map(|answer| batch.take_answer(&client.world, &answer));
        match code {
            Ok(ErrorCode::None) => {}
            // The one before was lost or refused.
            Ok(ErrorCode::OutOfOrderSequenceNumber) if !is_first => left.push(batch),
            Ok(code) if !client.may_pass(code) => return false,
            _ => left.push(batch),
        }
        is_first &= left.is_empty();
    }
    for batch in left {
        loop {
            let request = batch.request(&client.world, None);
            let answer = client.ask::<produce::Request>(9, &request).await.answer;
            match batch.take_answer(&client.world, &answer) {
                ErrorCode::None => break,
                // As in Kafka, a broker that was stopped in order knows the last batch of a producer and none before. Of
                // several that came in unseen it cannot tell the first any more.
                ErrorCode::OutOfOrderSequenceNumber => return false,
                code if client.may_pass(code) => client.back_off().await,
                _ => return false,
            }
        }
    }
    true
}
