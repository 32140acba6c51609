//! The broker as a process of its own, so that it can be killed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `oncelog serve` on a data directory of its own, which it keeps, like its port, across restarts.
pub struct BrokerProcess {
    child: Child,
    place: Place,
    address: SocketAddr,
}

/// Where a broker runs and what it is given.
struct Place {
    program: PathBuf,
    directory: TempDir,
    data: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
}

impl BrokerProcess {
    /// Starts a broker on a free port.
    pub fn start(arguments: &[&str]) -> BrokerProcess {
        BrokerProcess::start_on(None, arguments, &[])
    }

    /// The same, on a data directory of the test's choice and with variables in its environment.
    pub fn start_on(data: Option<&Path>, arguments: &[&str], environment: &[(&str, &Path)]) -> BrokerProcess {
        let directory = TempDir::with_prefix("oncelog-tests-").expect("there is a place for temporary files");
        let data = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
        BrokerProcess::at(Place { program: binary().clone(), directory, data, arguments, environment })
    }

    /// The same, of a given program and in a directory that was made for it.
    pub fn start_in(program: PathBuf, directory: TempDir, arguments: &[&str]) -> BrokerProcess {
        let data = directory.path().join("data");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        BrokerProcess::at(Place { program, directory, data, arguments, environment: Vec::new() })
    }

    fn at(place: Place) -> BrokerProcess {
        let mut child = spawn(&place, SocketAddr::from(([127, 0, 0, 1], 0)));
        let port = await_ready(&mut child, &place);
        BrokerProcess { child, place, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        self.place.data.clone()
    }

    /// What it has written to its standard error since it was first started.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.place.directory.path().join("stderr")).unwrap_or_default()
    }

    /// Waits until it has ended by itself; gives its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        crate::eventually("the broker ends", || {
            status = self.child.try_wait().expect("the broker can be waited for");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("the broker runs");
        self.child.wait().expect("the broker can be waited for");
    }

    /// Starts it again on its port and its data.
    pub fn start_again(&mut self) {
        self.begin_to_start();
        await_ready(&mut self.child, &self.place);
    }

    /// The same, without waiting until it is ready.
    pub fn begin_to_start(&mut self) {
        self.child = spawn(&self.place, self.address);
    }

    /// What it is started with from now on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.place.arguments = arguments.iter().map(ToString::to_string).collect();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self::signal(&self.child, signal);
    }

    /// Waits for its end, which something else has brought about.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the broker can be waited for")
    }

    /// Keeps its directory for somebody to look into, the log included, and says where that is.
    pub fn keep(&mut self) -> PathBuf {
        self.place.directory.disable_cleanup(true);
        self.place.directory.path().to_owned()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
    kill_process(pid, signal).expect("the process is there until it is waited for");
}

/// Starts the process.
fn spawn(place: &Place, address: SocketAddr) -> Child {
    let Place { program, directory, data, arguments, environment } = place;
    let place = |name: &str| directory.path().join(name);
    let log = File::options()
        .create(true)
        .append(true)
        .open(place("stderr"))
        .expect("the directory can be written");
    Command::new(program)
        .args(["serve", "--listen", &address.to_string()])
        .arg("--data-dir")
        .arg(data)
        .arg("--port-file")
        .arg(place("port"))
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the binary can be started")
}

/// Waits until the process is ready; says on which port.
fn await_ready(child: &mut Child, place: &Place) -> u16 {
    let place = |name: &str| place.directory.path().join(name);
    let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        if output.read_line(&mut line).expect("its output is text") == 0 {
            let log = std::fs::read_to_string(place("stderr")).unwrap_or_default();
            panic!("the broker ended before it was ready:\n{log}");
        }
    }
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
    let port = std::fs::read_to_string(place("port")).expect("a ready broker has written its port");
    port.trim().parse().expect("the port file holds a port")
}

/// The program to test: `ONCELOG_BIN`, or the workspace's own, built here in the way the tests themselves were.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(other) = std::env::var_os("ONCELOG_BIN") {
            return other.into();
        }
        // Tests run as <target>/<profile>/deps/<name>.
        let test = std::env::current_exe().expect("a test knows its own path");
        let of_profile =
            test.ancestors().nth(2).expect("tests are two levels below their profile's directory");
        let target = of_profile.parent().expect("a profile's directory is in the target directory");
        let profile = match of_profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bin", "oncelog", "--profile", profile])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()
            .expect("cargo is there, it built this test");
        assert!(built.success(), "the binary must build");
        of_profile.join("oncelog")
    })
}
