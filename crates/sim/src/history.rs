//! What clients did, what they were told and what they saw, and the claims that are checked while it happens.
//!
//! Every record has a number that its value begins with, so that wherever it turns up it is known who wrote it, in
//! which transaction, and what became of it.

use std::collections::BTreeMap;
use std::fmt;

use oncelog_wire::{ProducerEpoch, ProducerId, TopicPartition};

/// The topic that is deleted and made again; what becomes of its records is nobody's business.
pub const FLEETING: &str = "fleeting";
/// The topic whose oldest records are deleted now and then.
pub const TRIMMED: &str = "trimmed";
/// Where all kinds of producers write, and the copiers read.
pub const ORDERS: &str = "orders";
/// Where just transactions write.
pub const LEDGER: &str = "ledger";

/// What a world claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// A record that was acknowledged is where the acknowledgement says.
    AcknowledgedIsKept,
    /// A record of an idempotent producer is there once.
    OnlyOnce,
    /// What is at an offset never changes.
    StableOffsets,
    /// read_committed shows nothing of an aborted transaction.
    NoAbortedRead,
    /// read_committed shows nothing of a transaction whose commit nobody has asked for yet.
    NoIntermediateRead,
    /// Of a transaction all is visible or nothing, and all if the commit was acknowledged.
    WholeTransactions,
    /// Nothing that is committed is passed over, and nothing else is shown, wherever a reader starts.
    CompleteReads,
    /// What a fenced instance first asks for after its successor was let in is not done.
    FencedZombies,
    /// The committed offset of a group is where its committed outputs end.
    OffsetsInStep,
    /// What a consumer has committed last is what it is told when it asks.
    CommittedOffsets,
    /// A producer's records are in the order in which it wrote them.
    SequenceOrder,
    /// Batches follow each other without a gap.
    ContiguousPolls,
    /// Last stable offset <= high watermark, and neither goes back.
    Watermarks,
    /// A broker that replays its log knows what the one that wrote it knew.
    StateIsReplay,
    /// Once nothing fails any more everything comes to its end.
    Progress,
    /// The broker answers, with what its client can expect.
    SoundAnswers,
    /// No assertion fails, of the broker or of the world.
    NoPanics,
}

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.what)
    }
}

/// Numbers a record.
pub type RecordId = usize;
/// Numbers a transaction.
pub type TransactionId = usize;
/// Numbers the life of a producer: what it writes into a partition stays in order.
pub type SessionId = usize;
/// Numbers what one reader reads of one partition without a jump.
pub type PassId = usize;

/// How a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Without an idempotent producer: any attempt may have been carried out.
    Plainly,
    /// By an idempotent producer.
    Once,
    /// In a transaction.
    In(TransactionId),
}

/// A record that was written, or tried to be.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where to.
    pub place: TopicPartition,
    /// By whom.
    pub session: SessionId,
    /// How.
    pub written: Written,
    /// What it is a copy of: the partition and offset.
    pub source: Option<(i32, i64)>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether its instance was already fenced when it was first sent.
    pub is_late: bool,
    /// The offset its writer was told.
    pub acknowledged: Option<i64>,
    /// Where it was seen.
    pub seen_at: Option<i64>,
}

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nobody has asked for an end.
    #[default]
    Open,
    /// The commit was asked for, and the answer is not known.
    MayCommit,
    /// The commit was acknowledged.
    Committed,
    /// The abort was asked for, or acknowledged: either way it cannot have committed.
    Aborted,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The producer id, and the epoch it ran in.
    pub identity: (ProducerId, ProducerEpoch),
    /// How it ended.
    pub end: End,
    /// Whether a later instance had been let in when the commit was first asked for.
    pub is_late: bool,
    /// Its records.
    pub records: Vec<RecordId>,
}

/// What one reader saw of a partition, from one offset on without a jump.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Which partition.
    pub place: TopicPartition,
    /// Whether just what is committed.
    pub is_committed: bool,
    /// From where.
    pub from: i64,
    /// To before where.
    pub to: i64,
    /// What was shown: offsets and records.
    pub shown: Vec<(i64, RecordId)>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct History {
    /// The records.
    pub records: Vec<Entry>,
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// What readers saw.
    pub passes: Vec<Pass>,
    /// How many answers clients got.
    pub answers: u64,
    /// The highest epoch of each producer id that an instance was let in with.
    epochs: BTreeMap<ProducerId, ProducerEpoch>,
    sessions: SessionId,
    seen: BTreeMap<TopicPartition, BTreeMap<i64, RecordId>>,
    watermarks: BTreeMap<TopicPartition, (i64, i64)>,
    violation: Option<Violation>,
}

impl History {
    /// The first claim that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes that a claim does not hold.
    pub fn violated(&mut self, property: Property, what: String) {
        self.violation.get_or_insert(Violation { property, what });
    }

    /// Begins the life of a producer.
    pub fn new_session(&mut self) -> SessionId {
        self.sessions += 1;
        self.sessions
    }

    /// Notes a record that is going to be written.
    pub fn new_record(
        &mut self,
        place: &TopicPartition,
        session: SessionId,
        written: Written,
        source: Option<(i32, i64)>,
    ) -> RecordId {
        let id = self.records.len();
        if let Written::In(transaction) = written {
            self.transactions[transaction].records.push(id);
        }
        let place = place.clone();
        let (attempts, is_late, acknowledged, seen_at) = (0, false, None, None);
        self.records.push(Entry {
            place,
            session,
            written,
            source,
            attempts,
            is_late,
            acknowledged,
            seen_at,
        });
        id
    }

    /// Notes that a record is being sent.
    pub fn sends(&mut self, id: RecordId) {
        self.records[id].attempts += 1;
        let Entry { written, attempts, .. } = self.records[id];
        if let (Written::In(transaction), 1) = (written, attempts) {
            self.records[id].is_late = self.is_fenced(self.transactions[transaction].identity);
        }
    }

    /// Notes what the writer of a record was told.
    pub fn acknowledge(&mut self, id: RecordId, offset: i64) {
        let record = &mut self.records[id];
        let had = record.acknowledged.replace(offset);
        // An old duplicate is answered without an offset.
        if offset < 0 {
            record.acknowledged = had;
        } else if record.written != Written::Plainly && had.is_some_and(|had| had != offset) {
            let what = format!("record {id} was acknowledged at {had:?} and at {offset}");
            self.violated(Property::StableOffsets, what);
        }
    }

    /// An instance was let in: whoever has an earlier epoch is fenced from now on.
    pub fn let_in(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        let newest = self.epochs.entry(id).or_insert(epoch);
        *newest = epoch.max(*newest);
    }

    fn is_fenced(&self, (id, epoch): (ProducerId, ProducerEpoch)) -> bool {
        self.epochs.get(&id).is_some_and(|newest| *newest > epoch)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, id: ProducerId, epoch: ProducerEpoch) -> TransactionId {
        let (identity, records) = ((id, epoch), Vec::new());
        self.transactions.push(Transaction { identity, end: End::Open, is_late: false, records });
        self.transactions.len() - 1
    }

    /// A producer is about to ask for the end of its transaction.
    pub fn asks_for_end(&mut self, id: TransactionId, is_commit: bool) {
        let is_late = self.is_fenced(self.transactions[id].identity);
        let transaction = &mut self.transactions[id];
        transaction.is_late = is_late;
        transaction.end = if is_commit { End::MayCommit } else { End::Aborted };
    }

    /// The commit of a transaction was acknowledged.
    pub fn committed(&mut self, id: TransactionId) {
        self.transactions[id].end = End::Committed;
        if self.transactions[id].is_late {
            let what = format!("the commit of transaction {id} was first asked for by a fenced instance");
            self.violated(Property::FencedZombies, what);
        }
    }

    /// Begins to read a partition at an offset.
    pub fn new_pass(&mut self, place: &TopicPartition, is_committed: bool, from: i64) -> PassId {
        let place = place.clone();
        self.passes.push(Pass { place, is_committed, from, to: from, shown: Vec::new() });
        self.passes.len() - 1
    }

    /// A reader was shown a record.
    pub fn shown(&mut self, pass: PassId, offset: i64, value: &[u8]) {
        let (place, is_committed) = (self.passes[pass].place.clone(), self.passes[pass].is_committed);
        let Some(id) = record_id(value).filter(|id| *id < self.records.len()) else {
            let what = format!("{place} has at {offset} what nobody wrote: {value:?}");
            return self.violated(Property::StableOffsets, what);
        };
        self.passes[pass].shown.push((offset, id));
        self.seen_at(&place, offset, id);
        if is_committed {
            self.shown_as_committed(&place, offset, id);
        }
    }

    fn seen_at(&mut self, place: &TopicPartition, offset: i64, id: RecordId) {
        let before = *self.seen.entry(place.clone()).or_default().entry(offset).or_insert(id);
        if before != id {
            let what = format!("{place} had record {before} at {offset}, and now {id}");
            return self.violated(Property::StableOffsets, what);
        }
        let record = &mut self.records[id];
        let was_at = record.seen_at.replace(offset);
        if record.place != *place || record.attempts == 0 {
            let what = format!("record {id} of {} turns up in {place} at {offset}", record.place);
            return self.violated(Property::StableOffsets, what);
        }
        if record.is_late {
            let what = format!("record {id}, first sent by a fenced instance, is in {place} at {offset}");
            return self.violated(Property::FencedZombies, what);
        }
        if record.written == Written::Plainly {
            return;
        }
        let told = record.acknowledged;
        if let Some(was_at) = was_at.filter(|was_at| *was_at != offset) {
            let what = format!("record {id} is in {place} at {was_at} and at {offset}");
            self.violated(Property::OnlyOnce, what);
        } else if let Some(told) = told.filter(|told| *told != offset) {
            let what = format!("record {id} was acknowledged at {told}, and is in {place} at {offset}");
            self.violated(Property::AcknowledgedIsKept, what);
        }
    }

    fn shown_as_committed(&mut self, place: &TopicPartition, offset: i64, id: RecordId) {
        let Written::In(transaction) = self.records[id].written else { return };
        let property = match self.transactions[transaction].end {
            End::Open => Property::NoIntermediateRead,
            End::Aborted => Property::NoAbortedRead,
            _ => return,
        };
        let what = format!("record {id} of transaction {transaction} is shown at {offset} of {place}");
        self.violated(property, what);
    }

    /// A reader was told the watermarks of a partition: neither goes back as long as the reader asked after it was
    /// told the last ones.
    pub fn watermarks(&mut self, place: &TopicPartition, last_stable: i64, high: i64, known: (i64, i64)) {
        if last_stable > high {
            let what = format!("{place}: last stable offset {last_stable} > high watermark {high}");
            self.violated(Property::Watermarks, what);
        }
        // As in Kafka, a kill may bring deleted records back, and with them a transaction that is open among them.
        if high < known.1 || last_stable < known.0 && place.topic != TRIMMED {
            let what = format!("{place}: from {known:?} to {last_stable}, {high}");
            self.violated(Property::Watermarks, what);
        }
        let most = self.watermarks.entry(place.clone()).or_default();
        *most = (last_stable.max(most.0), high.max(most.1));
    }

    /// The highest watermarks anybody was told of a partition: last stable offset and high watermark.
    pub fn known_watermarks(&self, place: &TopicPartition) -> (i64, i64) {
        self.watermarks.get(place).copied().unwrap_or_default()
    }
}

/// The value of a record: its number, and some weight.
pub fn value_of(id: RecordId, weight: usize) -> String {
    format!("{id}.{}", "x".repeat(weight))
}

/// The number of the record with this value.
pub fn record_id(value: &[u8]) -> Option<RecordId> {
    let end = value.iter().position(|byte| *byte == b'.')?;
    std::str::from_utf8(&value[..end]).ok()?.parse().ok()
}
