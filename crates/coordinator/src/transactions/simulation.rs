//! Random clients, honest and not, against what must hold whatever they do: every transaction ends in one way in all
//! of its partitions, and that is what its client was told; nobody is un-fenced; and nothing stays half-done once
//! faults are over.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use oncelog_wire::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use proptest::prelude::*;

use super::script::World;
use super::*;

const IDS: [&str; 2] = ["a", "b"];

fn partitions() -> [TopicPartition; 3] {
    [TopicPartition::new("orders", 0), TopicPartition::new("orders", 1), TopicPartition::new("refunds", 0)]
}

#[derive(Clone, Debug)]
enum Step {
    /// A client starts, or starts over with what it knows of itself; it may not hear the answer.
    Initialize {
        client: usize,
        is_known: bool,
        is_heard: bool,
    },
    Add {
        client: usize,
        partition: usize,
    },
    End {
        client: usize,
        outcome: MarkerKind,
        is_heard: bool,
    },
    /// The network delivers the client's last EndTxn once more.
    RepeatEnd {
        client: usize,
    },
    Break {
        partition: usize,
    },
    Heal {
        partition: usize,
    },
    DeleteTopic,
    Wait {
        seconds: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..4usize;
    let partition = 0..3usize;
    let outcome = prop_oneof![Just(MarkerKind::Commit), Just(MarkerKind::Abort)];
    prop_oneof![
        3 => (client.clone(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(client, is_known, is_heard)| Step::Initialize { client, is_known, is_heard }),
        8 => (client.clone(), partition.clone()).prop_map(|(client, partition)| Step::Add { client, partition }),
        6 => (client.clone(), outcome, prop::bool::weighted(0.8))
            .prop_map(|(client, outcome, is_heard)| Step::End { client, outcome, is_heard }),
        3 => client.prop_map(|client| Step::RepeatEnd { client }),
        1 => partition.clone().prop_map(|partition| Step::Break { partition }),
        1 => partition.prop_map(|partition| Step::Heal { partition }),
        1 => Just(Step::DeleteTopic),
        2 => prop_oneof![Just(1), Just(30), Just(70)].prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// One attempt at a transaction, numbered by when its id became Ongoing.
type Attempt = usize;

#[derive(Clone)]
struct Client {
    transactional_id: &'static str,
    version: TransactionVersion,
    producer: Option<Producer>,
    /// Where its writes since its last end went.
    attempt: Option<Attempt>,
    last_end: Option<(Producer, MarkerKind, Option<Attempt>)>,
}

/// What a partition knows of a producer id.
#[derive(Default)]
struct Written {
    epoch: Option<ProducerEpoch>,
    open: Option<Attempt>,
}

struct Simulation {
    world: World,
    clients: Vec<Client>,
    partitions: HashMap<(TopicPartition, ProducerId), Written>,
    /// How each attempt was decided, by the first Prepare record that says so.
    decided: BTreeMap<Attempt, MarkerKind>,
    attempts: Attempt,
    /// The open attempt of each id.
    open: HashMap<&'static str, Attempt>,
    owners: HashMap<&'static str, Vec<Producer>>,
    /// Which client has been given each producer id and epoch.
    given: HashMap<Producer, usize>,
}

impl Simulation {
    fn new() -> Simulation {
        let client = |index: usize| Client {
            transactional_id: IDS[index % 2],
            version: if index < 3 { TransactionVersion::Two } else { TransactionVersion::Zero },
            producer: None,
            attempt: None,
            last_end: None,
        };
        let mut world = World::new();
        // Close enough to the end of its epochs to get there.
        let producer = Producer { id: ProducerId(3), epoch: ProducerEpoch(32_758) };
        let metadata = TransactionMetadata::unowned(producer.id, world.clocks().wall);
        let metadata = metadata.initialized(producer, 60_000, world.clocks().wall);
        world.append(Record { transactional_id: Str::from("b"), metadata: Some(metadata) });
        world.restart();
        Simulation {
            world,
            clients: (0..4).map(client).collect(),
            partitions: HashMap::new(),
            decided: BTreeMap::new(),
            attempts: 0,
            open: HashMap::new(),
            owners: HashMap::new(),
            given: HashMap::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Initialize { client, is_known, is_heard } => self.initialize(client, is_known, is_heard),
            Step::Add { client, partition } => self.add(client, &partitions()[partition]),
            Step::End { client, outcome, is_heard } => self.end(client, outcome, is_heard),
            Step::RepeatEnd { client } => self.repeat_end(client),
            Step::Break { partition } => {
                self.world.broken.insert(partitions()[partition].clone(), ErrorCode::KafkaStorageError);
            }
            Step::Heal { partition } => {
                self.world.broken.remove(&partitions()[partition]);
            }
            Step::DeleteTopic => {
                self.world.handle(Event::TopicDeleted { topic: "refunds" });
                self.partitions.retain(|(partition, _), _| partition.topic != "refunds");
            }
            Step::Wait { seconds } => self.world.wait_until(self.world.now + Duration::from_secs(seconds)),
            Step::Restart => self.world.restart(),
        }
        self.observe();
    }

    fn initialize(&mut self, client: usize, is_known: bool, is_heard: bool) {
        let Client { transactional_id, producer, .. } = self.clients[client];
        let expected = producer.filter(|_| is_known);
        let answer = self.world.handle_with_id(|fresh| {
            Event::InitProducerId(InitProducerId {
                transactional_id,
                timeout_ms: 60_000,
                expected,
                enable_two_phase_commit: false,
                keep_prepared_transaction: false,
                fresh,
            })
        });
        if let Some(Answer::Done(producer)) = answer {
            self.give(client, producer);
            assert_eq!(self.state(transactional_id), Some(TransactionState::Empty));
            if is_heard {
                let client = &mut self.clients[client];
                client.producer = Some(producer);
                client.attempt = None;
            }
        }
    }

    /// Adds a partition, and writes to it at once as a produce request does.
    fn add(&mut self, client: usize, partition: &TopicPartition) {
        let Client { transactional_id, version, producer: Some(producer), .. } = self.clients[client] else {
            return;
        };
        let was_ongoing = self.state(transactional_id) == Some(TransactionState::Ongoing);
        let answer = self.world.handle(Event::AddPartitions(AddPartitions {
            transactional_id,
            producer,
            partitions: std::slice::from_ref(partition),
            transaction_version: version,
        }));
        if !matches!(answer, Some(Answer::Done(_))) {
            return;
        }
        if !was_ongoing {
            self.attempts += 1;
            self.open.insert(transactional_id, self.attempts);
        }
        let attempt = self.open[transactional_id];
        self.clients[client].attempt = Some(attempt);
        let written = self.partitions.entry((partition.clone(), producer.id)).or_default();
        assert!(
            written.epoch <= Some(producer.epoch),
            "{partition} has seen a higher epoch than that of the owner"
        );
        assert!(
            written.open.is_none_or(|open| open == attempt),
            "{partition} still has another transaction open"
        );
        *written = Written { epoch: Some(producer.epoch), open: Some(attempt) };
    }

    fn end(&mut self, client: usize, outcome: MarkerKind, is_heard: bool) {
        let Client { producer: Some(producer), attempt, .. } = self.clients[client] else { return };
        let answer = self.ask_to_end(client, producer, outcome, attempt);
        if attempt.is_some() || matches!(answer, Some(Answer::Done(_))) {
            self.clients[client].last_end = Some((producer, outcome, attempt));
        }
        if is_heard {
            let client = &mut self.clients[client];
            client.attempt = None;
            if let Some(Answer::Done(producer)) = answer {
                client.producer = Some(producer);
            }
        }
    }

    fn repeat_end(&mut self, client: usize) {
        let Client { transactional_id, version, last_end: Some((producer, outcome, attempt)), .. } =
            self.clients[client]
        else {
            return;
        };
        // Up to EndTxn version 4 there is no telling a repeated request from the next one.
        if version != TransactionVersion::Two {
            return;
        }
        let open = self.open.get(transactional_id).copied();
        self.ask_to_end(client, producer, outcome, attempt);
        if open != attempt {
            assert_eq!(self.open.get(transactional_id).copied(), open, "it ended a later one");
        }
    }

    fn ask_to_end(
        &mut self,
        client: usize,
        producer: Producer,
        outcome: MarkerKind,
        attempt: Option<Attempt>,
    ) -> Option<Answer> {
        let Client { transactional_id, version, .. } = self.clients[client];
        let answer = self.world.handle_with_id(|fresh| {
            Event::EndTransaction(EndTransaction {
                transactional_id,
                producer,
                outcome,
                transaction_version: version,
                fresh,
            })
        });
        self.observe();
        if let Some(Answer::Done(producer)) = answer {
            self.give(client, producer);
            if let Some(attempt) = attempt {
                assert_eq!(self.decided.get(&attempt), Some(&outcome), "the client was told something else");
            }
        }
        answer
    }

    /// A client is told what to use from now on; no other client may have been told the same.
    fn give(&mut self, client: usize, producer: Producer) {
        assert!(!producer.is_fence(), "a client got the last epoch");
        assert_eq!(*self.given.entry(producer).or_insert(client), client, "{producer:?} has two owners");
    }

    fn state(&self, transactional_id: &str) -> Option<TransactionState> {
        self.world.machine.describe(transactional_id).map(|metadata| metadata.state)
    }

    /// Looks at what has been appended and written since.
    fn observe(&mut self) {
        for record in std::mem::take(&mut self.world.appended) {
            let Some(metadata) = &record.metadata else { continue };
            let transactional_id = IDS[usize::from(record.transactional_id == "b")];
            self.check_owner(transactional_id, metadata.producer);
            if let Some(outcome) = metadata.state.prepared()
                && let Some(attempt) = self.open.remove(transactional_id)
            {
                assert_eq!(self.decided.insert(attempt, outcome), None, "a transaction was decided twice");
            }
        }
        for (partition, markers) in std::mem::take(&mut self.world.written) {
            let written = self.partitions.entry((partition.clone(), markers.producer.id)).or_default();
            let epoch = Some(markers.producer.epoch);
            let is_acceptable = match markers.transaction_version {
                TransactionVersion::Two => {
                    written.epoch < epoch || (written.epoch == epoch && written.open.is_none())
                }
                _ => written.epoch <= epoch,
            };
            assert!(is_acceptable, "{partition} would have refused {markers:?}");
            written.epoch = epoch;
            if let Some(attempt) = written.open.take() {
                assert_eq!(
                    self.decided.get(&attempt),
                    Some(&markers.outcome),
                    "{partition} got the wrong marker"
                );
            }
        }
        self.world.check();
    }

    /// Epochs only grow, and a producer id that was left never comes back.
    fn check_owner(&mut self, transactional_id: &'static str, producer: Producer) {
        let owners = self.owners.entry(transactional_id).or_default();
        match owners.last_mut() {
            Some(last) if last.id == producer.id => {
                assert!(last.epoch <= producer.epoch, "the epoch of {transactional_id} went down");
                *last = producer;
            }
            _ => {
                assert!(owners.iter().all(|owner| owner.id != producer.id), "a producer id came back");
                owners.push(producer);
            }
        }
    }

    /// Once faults are over and time has passed, nothing is left half-done.
    fn settle(&mut self) {
        self.world.broken.clear();
        self.world.wait_until(self.world.now + Duration::from_secs(200));
        self.observe();
        for id in IDS {
            let state = self.state(id);
            let is_idle =
                state.is_none_or(|state| state != TransactionState::Ongoing && state.prepared().is_none());
            assert!(is_idle, "{id} is stuck in {state:?}");
        }
        assert!(
            self.partitions.values().all(|written| written.open.is_none()),
            "a partition has one open for ever"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_end_in_one_way_and_as_their_clients_were_told(steps in prop::collection::vec(step(), 1..80)) {
        let mut simulation = Simulation::new();
        for step in &steps {
            simulation.run(step);
        }
        simulation.settle();
    }
}
