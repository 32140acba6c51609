//! The processes of the clients: started, killed, paused, replaced while they are paused, and listened to.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oncelog_tests::process::signal;
use rustix::process::Signal;

use crate::clients::Kind;
use crate::history::{History, Instance, Session};

/// What is known, shared by all who learn something.
pub type Shared = Arc<Mutex<History>>;

/// A look at what is known.
pub fn known<T>(history: &Shared, look: impl FnOnce(&mut History) -> T) -> T {
    look(&mut history.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Who runs: what each does, and its name.
const CLIENTS: [(Kind, &str); 7] = [
    (Kind::Idempotent, "idempotent"),
    (Kind::Writer, "writer"),
    (Kind::NewWriter, "new-writer"),
    (Kind::Copier, "copier"),
    (Kind::StaticCopier, "static-copier"),
    (Kind::Mirror, "mirror"),
    (Kind::Reader, "reader"),
];

/// Those whose commits show that new records come in.
pub const WRITERS: [&str; 2] = ["writer", "new-writer"];
/// Those whose commits show that records are copied.
pub const COPIERS: [&str; 2] = ["copier", "static-copier"];
/// The one copier that is in no group.
pub const MIRROR: &str = "mirror";

/// How long a client may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was done to clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Killed.
    pub killed: u64,
    /// Paused for a while.
    pub paused: u64,
    /// Paused while another took over.
    pub replaced: u64,
    /// Ended by an error that they could not go on after.
    pub failed: u64,
}

struct Client {
    session: Session,
    kind: Kind,
    name: &'static str,
    child: Child,
    /// When it is to go on, where it is paused.
    paused_until: Option<Instant>,
    listener: JoinHandle<()>,
}

impl Client {
    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is a child");
        self.child.wait().expect("it is a child");
    }

    fn pause_for(&mut self, pause: Duration) {
        if !self.has_ended() {
            signal(&self.child, Signal::STOP);
            self.paused_until = Some(Instant::now() + pause);
        }
    }

    fn go_on(&mut self) {
        if self.paused_until.take().is_some() {
            signal(&self.child, Signal::CONT);
        }
    }

    /// Asks it to come to its end.
    fn ask_to_end(&mut self) {
        self.go_on();
        self.child.stdin.take();
    }

    /// Waits for its end; false if it has to be forced.
    fn end(mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut ends = true;
        while ends && !self.has_ended() {
            ends = Instant::now() < deadline;
            std::thread::sleep(Duration::from_millis(5));
        }
        if !ends {
            self.kill();
        }
        self.bury();
        ends
    }

    /// Takes down the last of what it said.
    fn bury(self) {
        self.listener.join().expect("listening cannot fail");
    }
}

/// All clients.
pub struct Fleet {
    broker: SocketAddr,
    history: Shared,
    log: Arc<Mutex<File>>,
    running: Vec<Client>,
    /// Those that were replaced.
    zombies: Vec<Client>,
    sessions: Session,
    /// What was done to them.
    pub counts: Counts,
}

impl Fleet {
    /// No client so far. What they say is written to a file, too.
    pub fn new(broker: SocketAddr, history: Shared, log: &Path) -> Fleet {
        let log = Arc::new(Mutex::new(File::create(log).expect("the directory can be written")));
        let (running, zombies) = (Vec::new(), Vec::new());
        Fleet { broker, history, log, running, zombies, sessions: 0, counts: Counts::default() }
    }

    /// Starts one of each.
    pub fn start(&mut self) {
        for (kind, name) in CLIENTS {
            let client = self.spawn(kind, name);
            self.running.push(client);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// The session of the client with a name.
    pub fn session_of(&self, name: &str) -> Option<Session> {
        self.running.iter().find(|client| client.name == name).map(|client| client.session)
    }

    fn spawn(&mut self, kind: Kind, name: &'static str) -> Client {
        self.sessions += 1;
        let session = self.sessions;
        let transactional_id = (!matches!(kind, Kind::Idempotent | Kind::Reader)).then_some(name);
        let instance = Instance { transactional_id, ..Instance::default() };
        known(&self.history, |history| history.instances.insert(session, instance));
        let value = clap::ValueEnum::to_possible_value(&kind).expect("no kind is hidden");
        let mut child = Command::new(std::env::current_exe().expect("this is a program"))
            .args(["client", value.get_name(), &session.to_string(), name, &self.broker.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("this program can be started again");
        let output = child.stdout.take().expect("its output is a pipe");
        let (history, log) = (self.history.clone(), self.log.clone());
        let listener = std::thread::spawn(move || listen(session, output, &history, &log));
        Client { session, kind, name, child, paused_until: None, listener }
    }

    /// Lets go on who has paused long enough, and gives those who have ended a successor.
    pub fn tend(&mut self) {
        let now = Instant::now();
        for client in self.running.iter_mut().chain(&mut self.zombies) {
            if client.paused_until.is_some_and(|until| now >= until) {
                client.go_on();
            }
        }
        for ended in self.zombies.extract_if(.., Client::has_ended) {
            ended.bury();
        }
        for at in 0..self.running.len() {
            if self.running[at].has_ended() {
                self.counts.failed += 1;
                self.replace(at).bury();
            }
        }
    }

    fn replace(&mut self, at: usize) -> Client {
        let Client { kind, name, .. } = self.running[at];
        let successor = self.spawn(kind, name);
        std::mem::replace(&mut self.running[at], successor)
    }

    /// Kills a client; another takes its place at once.
    pub fn kill(&mut self, at: usize) {
        self.running[at].kill();
        self.counts.killed += 1;
        self.replace(at).bury();
    }

    /// Pauses a client.
    pub fn pause(&mut self, at: usize, pause: Duration) {
        self.running[at].pause_for(pause);
        self.counts.paused += 1;
    }

    /// Pauses a client, and has another take over at once.
    pub fn usurp(&mut self, at: usize, pause: Duration) {
        self.running[at].pause_for(pause);
        self.counts.replaced += 1;
        let zombie = self.replace(at);
        self.zombies.push(zombie);
    }

    /// Ends those of some kinds and all zombies, and waits for it; says whether they ended by themselves.
    pub fn end(&mut self, is_meant: impl Fn(Kind) -> bool) -> bool {
        let running = self.running.drain(..);
        let (mut ending, others): (Vec<Client>, Vec<Client>) =
            running.partition(|client| is_meant(client.kind));
        self.running = others;
        ending.append(&mut self.zombies);
        ending.iter_mut().for_each(Client::ask_to_end);
        let forced = ending.into_iter().map(Client::end).filter(|ends| !ends);
        forced.count() == 0
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.running.iter_mut().chain(&mut self.zombies).for_each(Client::kill);
    }
}

/// Takes down what a client says until its end. A last line that is not whole was never said.
fn listen(session: Session, output: ChildStdout, history: &Shared, log: &Mutex<File>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|length| length > 0) {
        if let Some(line) = line.strip_suffix('\n') {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(log, "{session} {line}").expect("the log can be written");
            drop(log);
            known(history, |history| history.note(session, line));
        }
        line.clear();
    }
}
