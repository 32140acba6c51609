//! A producer without idempotence: what it is told was written is there, and perhaps more than once.

use oncelog_wire::{ErrorCode, TopicPartition, produce};

use super::{Batch, Client, Identity};
use crate::history::{FLEETING, Written};
use crate::world::Phase;

/// Writes until the storm ends.
pub async fn run(mut client: Client, places: Vec<TopicPartition>) {
    let session = client.world.change().history.new_session();
    while client.phase() == Phase::Storm {
        let batch = {
            let mut world = client.world.change();
            let place = places[world.random.below(places.len() as u64) as usize].clone();
            let count = world.random.within(1..5);
            let new = |_| world.history.new_record(&place, session, Written::Plainly, None);
            let records = (0..count).map(new).collect();
            drop(world);
            Batch::new(&client.world, &place, records, Identity::NONE, -1, false)
        };
        let acks = client.world.pick(&[-1, 1, 0]);
        if acks == 0 {
            // Whatever becomes of it: there is no answer.
            let request = produce::Request { acks, ..batch.request(&client.world, None) };
            let _ = client.send::<produce::Request>(9, &request);
            client.world.sleep_within(1..400).await;
            continue;
        }
        for _ in 0..3 {
            let request = produce::Request { acks, ..batch.request(&client.world, None) };
            let Ok(answer) = client.try_once::<produce::Request>(9, &request).await else {
                client.back_off().await;
                continue;
            };
            match batch.take_answer(&client.world, &answer) {
                ErrorCode::None => break,
                ErrorCode::UnknownTopicOrPartition if batch.place.topic == FLEETING => break,
                code if client.may_pass(code) => client.back_off().await,
                _ => return,
            }
        }
        client.world.sleep_within(1..400).await;
    }
}
