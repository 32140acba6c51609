//! What the clients did, were told and saw, gathered from the lines that their processes print.
//!
//! A line is printed before the thing it speaks of is asked for, and after what it tells of has come. Times are those of
//! the machine's monotonic clock, which all processes share, so that what happened in two of them can be put in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::{FromStr, SplitWhitespace};

/// The life of one client, from the start of its process to its end.
pub type Session = u32;
/// The session of the reader that is no process of its own.
pub const READER: Session = 0;
/// Numbers the transactions of a session.
pub type TransactionId = (Session, u32);
/// A moment.
pub type Micros = u64;

/// A record: its session, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub Session, pub u32);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for RecordId {
    type Err = ();

    fn from_str(text: &str) -> Result<RecordId, ()> {
        let (session, number) = text.split_once('.').ok_or(())?;
        Ok(RecordId(session.parse().map_err(|_| ())?, number.parse().map_err(|_| ())?))
    }
}

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Where producers write and copiers read.
    Orders,
    /// Where just transactions write, so that there is more to be torn.
    Ledger,
    /// The copy of the orders by members of a group.
    Copies,
    /// The copy of the orders by a client without a group's membership.
    Mirror,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 4] = [Topic::Orders, Topic::Ledger, Topic::Copies, Topic::Mirror];
    /// Those that hold copies.
    pub const COPIES: [Topic; 2] = [Topic::Copies, Topic::Mirror];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Orders => "orders",
            Topic::Ledger => "ledger",
            Topic::Copies => "copies",
            Topic::Mirror => "mirror",
        }
    }

    /// The topic with this name.
    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// A partition.
pub type Place = (Topic, i32);

/// How many partitions each topic has.
pub const PARTITIONS: i32 = 3;

/// All partitions.
pub fn places() -> impl Iterator<Item = Place> {
    Topic::ALL.into_iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
}

/// The partitions of the copies.
pub fn copies() -> impl Iterator<Item = Place> {
    Topic::COPIES.into_iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
}

/// What a copy is a copy of: the record, and its offset in the partition of the same number.
pub type Source = (RecordId, i64);

/// The value of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Which record it is.
    pub id: RecordId,
    /// What it is a copy of.
    pub source: Option<Source>,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some((source, offset)) => write!(f, "{} {source} {offset}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

impl FromStr for Value {
    type Err = ();

    fn from_str(text: &str) -> Result<Value, ()> {
        let mut words = text.split_whitespace();
        let id = words.next().ok_or(())?.parse()?;
        Ok(Value { id, source: source(&mut words).ok_or(())? })
    }
}

/// Two words that name a source, or none.
fn source(words: &mut SplitWhitespace<'_>) -> Option<Option<Source>> {
    match words.next() {
        Some(id) => Some(Some((id.parse().ok()?, words.next()?.parse().ok()?))),
        None => Some(None),
    }
}

/// A record that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub place: Place,
    /// In which transaction.
    pub transaction: Option<TransactionId>,
    /// What it is a copy of.
    pub source: Option<Source>,
    /// The offset that its producer was told: -1 where it was told of none.
    pub acknowledged: Option<i64>,
}

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nobody has asked for an end.
    #[default]
    Open,
    /// The commit was asked for, and not answered so far.
    MayCommit,
    /// The commit was acknowledged.
    Committed,
    /// The abort was asked for, and never the commit.
    Aborted,
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// When it began.
    pub began: Micros,
    /// When the first of its records was acknowledged.
    pub acknowledged: Option<Micros>,
    /// When its commit was first asked for.
    pub asked: Option<Micros>,
    /// How it ended.
    pub end: End,
    /// Its records.
    pub records: Vec<RecordId>,
}

/// An instance of a producer.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Its transactional id, where it has one.
    pub transactional_id: Option<&'static str>,
    /// When it had not asked to be let in yet.
    pub asked: Option<Micros>,
    /// When it knew that it was let in.
    pub let_in: Option<Micros>,
}

/// A death of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// When it certainly still lived.
    pub from: Micros,
    /// When it was certainly dead.
    pub to: Micros,
    /// Whether what was open is aborted after it.
    pub aborts_open: bool,
}

/// How far a copy certainly was: its end, and the offset its group had committed afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The partition of the copy.
    pub place: Place,
    /// All committed copies are below this.
    pub end: i64,
    /// The offset of the group.
    pub committed: i64,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct History {
    /// The instances.
    pub instances: BTreeMap<Session, Instance>,
    /// The records.
    pub records: HashMap<RecordId, Sent>,
    /// The transactions.
    pub transactions: HashMap<TransactionId, Transaction>,
    /// What each reader, by its session, saw of each partition from its start: offsets and values.
    pub seen: BTreeMap<(Session, Place), Vec<(i64, Value)>>,
    /// How many readers there were that are forgotten, and how many records they saw.
    forgotten: (usize, usize),
    /// The crashes.
    pub crashes: Vec<Crash>,
    /// How the copies went.
    pub steps: Vec<Step>,
    /// The last stable offset and high watermark last told.
    pub watermarks: BTreeMap<Place, (i64, i64)>,
    /// When the last of a transactional id's acknowledged commits was asked for.
    last_commits: BTreeMap<&'static str, Micros>,
    /// What was found wrong at once.
    pub faults: Vec<String>,
}

impl History {
    /// Takes in a line that the client of a session printed.
    pub fn note(&mut self, session: Session, line: &str) {
        if self.take(session, line).is_none() {
            self.faults.push(format!("session {session} says what makes no sense: {line}"));
        }
    }

    fn take(&mut self, session: Session, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        match words.next()? {
            "enters" => self.instances.entry(session).or_default().asked = Some(next(&mut words)?),
            "in" => self.instances.entry(session).or_default().let_in = Some(next(&mut words)?),
            "begin" => {
                let id = (session, next(&mut words)?);
                let began = next(&mut words)?;
                self.transactions.insert(id, Transaction { began, ..Transaction::default() });
            }
            "send" => self.sends(session, &mut words)?,
            "ack" => self.acknowledge(session, &mut words)?,
            "asks" => {
                let transaction = self.transactions.get_mut(&(session, next(&mut words)?))?;
                let is_commit = words.next()? == "commit";
                match (is_commit, transaction.end) {
                    (true, End::Open) => {
                        transaction.asked = Some(next(&mut words)?);
                        transaction.end = End::MayCommit;
                    }
                    (false, End::Open) => transaction.end = End::Aborted,
                    // An abort after a commit that failed: which of the two it was is not known.
                    _ => {}
                }
            }
            "committed" => {
                let transaction = self.transactions.get_mut(&(session, next(&mut words)?))?;
                transaction.end = End::Committed;
                let transactional_id = self.instances.get(&session)?.transactional_id?;
                let last = self.last_commits.entry(transactional_id).or_default();
                *last = transaction.asked?.max(*last);
            }
            "saw" => {
                let place = place(&mut words)?;
                let offset = next(&mut words)?;
                let value = Value { id: next(&mut words)?, source: source(&mut words)? };
                self.seen.entry((session, place)).or_default().push((offset, value));
            }
            "ends" => {}
            _ => return None,
        }
        Some(())
    }

    fn sends(&mut self, session: Session, words: &mut SplitWhitespace<'_>) -> Option<()> {
        let id = RecordId(session, next(words)?);
        let place = place(words)?;
        let transaction = match words.next()? {
            "-" => None,
            number => Some((session, number.parse().ok()?)),
        };
        if let Some(transaction) = transaction {
            self.transactions.get_mut(&transaction)?.records.push(id);
        }
        let source = source(words)?;
        self.records.insert(id, Sent { place, transaction, source, acknowledged: None });
        Some(())
    }

    fn acknowledge(&mut self, session: Session, words: &mut SplitWhitespace<'_>) -> Option<()> {
        let record = self.records.get_mut(&RecordId(session, next(words)?))?;
        record.acknowledged = Some(next(words)?);
        let at = next(words)?;
        if let Some(transaction) = record.transaction {
            self.transactions.get_mut(&transaction)?.acknowledged.get_or_insert(at);
        }
        Some(())
    }

    /// Takes in what a partition's watermarks are now: neither may go back.
    pub fn watermarks(&mut self, place: Place, last_stable: i64, high: i64) {
        let known = self.watermarks.entry(place).or_default();
        if last_stable > high || last_stable < known.0 || high < known.1 {
            let fault = format!("{place:?}: watermarks {known:?}, then {:?}", (last_stable, high));
            self.faults.push(fault);
        }
        *known = (last_stable, high);
    }

    /// How many readers there were, and how many records they saw.
    pub fn read(&self) -> (usize, usize) {
        let readers: BTreeSet<Session> = self.seen.keys().map(|(reader, _)| *reader).collect();
        let records: usize = self.seen.values().map(Vec::len).sum();
        (self.forgotten.0 + readers.len(), self.forgotten.1 + records)
    }

    /// Forgets what was judged and cannot change any more: what readers saw that have ended, and how the copies went.
    pub fn forget(&mut self) {
        let before = self.read();
        self.seen.retain(|(reader, _), _| *reader == READER);
        self.steps.clear();
        self.forgotten = (0, 0);
        let left = self.read();
        self.forgotten = (before.0 - left.0, before.1 - left.1);
    }

    /// How many transactions had an acknowledged record before a crash, and an acknowledged commit that was asked for
    /// after it.
    pub fn survivors(&self) -> usize {
        let survives = |transaction: &&Transaction| {
            let (Some(acknowledged), Some(asked)) = (transaction.acknowledged, transaction.asked) else {
                return false;
            };
            let at = self.crashes.partition_point(|crash| crash.from <= acknowledged);
            transaction.end == End::Committed && self.crashes.get(at).is_some_and(|crash| crash.to < asked)
        };
        self.transactions.values().filter(survives).count()
    }

    /// When the commit was asked for that, of those of a transactional id that were acknowledged, was asked for last.
    pub fn last_commit(&self, transactional_id: &str) -> Micros {
        self.last_commits.get(transactional_id).copied().unwrap_or_default()
    }
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn place(words: &mut SplitWhitespace<'_>) -> Option<Place> {
    Some((Topic::named(words.next()?)?, next(words)?))
}
