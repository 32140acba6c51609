//! The course of a world: it is made, a storm rages, then all has to come to its end, and the end is audited.

use std::future::Future;
use std::time::Duration;

use oncelog_client::Isolation;
use oncelog_wire::TopicPartition;

use crate::audit;
use crate::chaos;
use crate::clients::admin::{self, NewTopic};
use crate::clients::transactional::{Generation, TRANSACTION_TIMEOUT_MS};
use crate::clients::{Client, consumer, copier, idempotent, member, plain, reader, transactional};
use crate::disk::Faults;
use crate::executor::{Shared, TaskId};
use crate::history::{FLEETING, LEDGER, ORDERS, Property, TRIMMED};
use crate::network::Weather;
use crate::world::{Phase, World};

/// How long anything may take once nothing fails any more.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many partitions the copiers share.
pub const ORDERS_PARTITIONS: i32 = 2;

/// The topics of all worlds.
pub const TOPICS: [NewTopic; 6] = [
    NewTopic::kept(ORDERS, ORDERS_PARTITIONS),
    NewTopic::kept(LEDGER, 2),
    NewTopic { name: TRIMMED, partitions: 1, retention_bytes: 30_000 },
    admin::FLEETING_TOPIC,
    NewTopic::kept(copier::BY_PARTITION.output, ORDERS_PARTITIONS),
    NewTopic::kept(copier::BY_MEMBERS.output, ORDERS_PARTITIONS),
];

/// The transactional ids of all worlds.
pub const TRANSACTIONAL_IDS: [&str; 6] = ["pay-0", "pay-1", "copy-0", "copy-1", "member-0", "member-1"];

/// The partitions whose content is audited.
pub fn audited_places() -> Vec<TopicPartition> {
    places(&[ORDERS, LEDGER, TRIMMED, copier::BY_PARTITION.output, copier::BY_MEMBERS.output])
}

fn places(topics: &[&str]) -> Vec<TopicPartition> {
    let known = TOPICS.iter().filter(|topic| topics.contains(&topic.name));
    known.flat_map(|topic| (0..topic.partitions).map(|at| TopicPartition::new(topic.name, at))).collect()
}

/// Lives through a world.
pub async fn run(world: Shared) {
    let mut first = Client::new(&world, "first".into());
    for topic in &TOPICS {
        admin::create(&mut first, topic).await;
    }
    let writers = spawn_writers(&world);
    let followers = spawn_followers(&world);
    world.spawn(chaos::run(world.clone()));

    while !world.look().is_out_of_steps() {
        world.sleep(Duration::from_millis(20)).await;
    }
    end_storm(&mut world.change());
    let is_dead = |world: &World, tasks: &[TaskId]| !tasks.iter().any(|task| world.is_alive(*task));
    if !world.wait_until(PATIENCE, |world| is_dead(world, &writers)).await {
        return no_progress(&world, "the writers do not come to an end");
    }
    // Transactions whose producers died have timed out by then.
    world.sleep(Duration::from_millis(2 * TRANSACTION_TIMEOUT_MS as u64 + 1_000)).await;
    world.change().phase = Phase::Draining;
    if !world.wait_until(PATIENCE, |world| is_dead(world, &followers)).await {
        return no_progress(&world, "copiers or readers do not come to an end");
    }
    audit::run(&mut world.change());
}

fn no_progress(world: &Shared, what: &str) {
    world.change().history.violated(Property::Progress, what.to_owned());
}

/// From here on nothing fails. The broker starts once more, for logs that went offline do not come back by themselves.
fn end_storm(world: &mut World) {
    world.note(format_args!("the storm is over"));
    world.phase = Phase::Ending;
    world.weather = Weather::FAIR;
    world.set_disk_faults(Faults::default());
    world.kill_broker();
}

fn spawn_writers(world: &Shared) -> Vec<TaskId> {
    let mut writers = Vec::new();
    let count = |most: u64| world.below(most + 1);
    let everywhere = places(&[ORDERS, LEDGER, TRIMMED, FLEETING]);
    for number in 0..count(1) {
        let places = places(&[ORDERS, TRIMMED, FLEETING]);
        let make = move |world: &Shared, life: u64| {
            plain::run(Client::new(world, format!("plain-{number}.{life}")), places.clone())
        };
        writers.push(world.spawn(keep_alive(world.clone(), Phase::Storm, make)));
    }
    for number in 0..count(2) {
        let places = places(&[ORDERS, TRIMMED]);
        let make = move |world: &Shared, life: u64| {
            idempotent::run(Client::new(world, format!("once-{number}.{life}")), places.clone())
        };
        writers.push(world.spawn(keep_alive(world.clone(), Phase::Storm, make)));
    }
    for number in 0..1 + count(1) {
        let (places, generation) = (everywhere.clone(), pick_generation(world));
        let make = move |world: &Shared, life: u64| {
            let client = Client::new(world, format!("pay-{number}.{life}"));
            transactional::run(client, format!("pay-{number}"), generation, places.clone())
        };
        writers.push(world.spawn(keep_alive(world.clone(), Phase::Storm, make)));
    }
    writers.push(world.spawn(admin::run(Client::new(world, "admin".into()))));
    writers
}

fn spawn_followers(world: &Shared) -> Vec<TaskId> {
    let mut followers = Vec::new();
    for partition in 0..ORDERS_PARTITIONS {
        let generation = pick_generation(world);
        let make = move |world: &Shared, life: u64| {
            let client = Client::new(world, format!("copy-{partition}.{life}"));
            copier::run(client, format!("copy-{partition}"), generation, partition)
        };
        followers.push(world.spawn(keep_alive(world.clone(), Phase::Draining, make)));
    }
    for number in 0..world.below(3) {
        let generation = pick_generation(world);
        let make = move |world: &Shared, life: u64| {
            member::run(
                Client::new(world, format!("member-{number}.{life}")),
                format!("member-{number}"),
                generation,
            )
        };
        followers.push(world.spawn(keep_alive(world.clone(), Phase::Draining, make)));
    }
    for number in 0..world.below(3) {
        let make = move |world: &Shared, life: u64| {
            consumer::run(Client::new(world, format!("consumer-{number}.{life}")))
        };
        followers.push(world.spawn(keep_alive(world.clone(), Phase::Storm, make)));
    }
    for (name, isolation) in
        [("committed", Isolation::ReadCommitted), ("uncommitted", Isolation::ReadUncommitted)]
    {
        let make = move |world: &Shared, life: u64| {
            reader::run(Client::new(world, format!("{name}.{life}")), isolation, audited_places())
        };
        followers.push(world.spawn(keep_alive(world.clone(), Phase::Draining, make)));
    }
    followers
}

fn pick_generation(world: &Shared) -> Generation {
    world.pick(&[Generation::One, Generation::Two])
}

/// Keeps one client alive: kills it now and then, or takes it for dead and starts another beside it. Nobody comes after
/// one that was born when it was `needed` for the last time, and has come to its end in peace.
async fn keep_alive<F>(world: Shared, needed: Phase, make: impl Fn(&Shared, u64) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut lives = Vec::new();
    loop {
        let born_in = world.look().phase;
        let task = world.spawn(make(&world, lives.len() as u64 + 1));
        lives.push(task);
        let span = Duration::from_millis(world.within(500..20_000));
        let is_due = |world: &World| !world.is_alive(task) || world.phase > Phase::Storm;
        let has_ended = world.wait_until(span, is_due).await;
        if world.look().phase == Phase::Storm {
            if has_ended {
                world.sleep_within(10..1_000).await;
            } else if world.one_in(2) {
                world.change().note(format_args!("client {} dies", lives.len()));
                world.change().kill(task);
            }
            continue;
        }
        if needed == Phase::Storm && world.one_in(2) {
            // Nobody will come and clear up behind this one.
            world.change().kill(task);
        }
        let is_over = |world: &World| !lives.iter().any(|task| world.is_alive(*task));
        world.wait_until(PATIENCE, is_over).await;
        if born_in >= needed {
            return;
        }
        world.wait_until(PATIENCE, |world| world.phase >= needed).await;
    }
}
