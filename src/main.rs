//! The command line: flags and the configuration file become a broker.

mod bench;
mod inspect;

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use oncelog_broker::{Broker, Config, Durability, ListenerConfig, Storage};
use tracing_subscriber::EnvFilter;

/// A small, fast, Kafka-compatible broker built for exactly-once.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker in the foreground until SIGTERM or SIGINT.
    Serve(Serve),
    /// Put load on a broker and measure it: transactions first.
    Bench(Box<bench::Bench>),
    /// Verify a data directory that no broker uses. Exits with 1 where there are faults, 2 where it cannot be read.
    Check(inspect::Check),
    /// Print what a data directory holds, for people.
    #[command(subcommand)]
    Dump(inspect::Dump),
}

#[derive(Args)]
struct Serve {
    /// Where to listen; port 0 takes a free one. May be given several times. [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,

    /// The address clients are told, in place of the one they connected to; once for each --listen.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,

    /// Where to keep the data. [default: ./oncelog-data]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,

    /// Keep the data in memory only.
    #[arg(long)]
    ephemeral: bool,

    /// What acknowledged data survives: the death of the process (os) or a power cut (fsync).
    #[arg(long, value_enum, default_value_t = DurabilityFlag::Os)]
    durability: DurabilityFlag,

    /// A file of Kafka's configuration keys.
    #[arg(long, value_name = "server.properties")]
    config: Option<PathBuf>,

    /// Set one of Kafka's configuration keys; wins over the file.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Write the port of the first listener to this file once the broker is ready.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DurabilityFlag {
    Os,
    Fsync,
}

/// What is listened on where neither a flag nor a key says it.
const DEFAULT_LISTEN: &str = "127.0.0.1:9092";

fn main() -> ExitCode {
    let serve = match Cli::try_parse().map(|cli| cli.command) {
        Ok(Command::Serve(serve)) => serve,
        Ok(Command::Bench(bench)) => return bench.run(),
        Ok(Command::Check(check)) => return check.run(),
        Ok(Command::Dump(dump)) => return dump.run(),
        Err(error) => return explain(&error),
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_from_env("ONCELOG_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_target(false)
        .init();
    match serve.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oncelog: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints help where it was asked for, and for a mistake in the flags the one line that says which.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Where nobody takes the text there is nobody to tell.
        let _ = error.print();
        return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // What clap says up to the first empty line; behind that is advice.
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    eprintln!("oncelog: {}", lines.join(" ").trim_start_matches("error: "));
    ExitCode::FAILURE
}

impl Serve {
    fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let config = self.to_config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { Signals::new() })?;
        let broker = Broker::start(config)?;
        if let Some(path) = &self.port_file {
            write_port(path, broker.address().port())?;
        }
        println!("oncelog is ready on {}", broker.bootstrap_servers());
        let has_failed = runtime.block_on(async {
            tokio::select! {
                () = signals.received() => false,
                () = broker.failed() => true,
            }
        });
        tracing::info!("stopping");
        broker.stop();
        match has_failed {
            true => Err("the disk did not keep what it was given; start again to recover".into()),
            false => Ok(()),
        }
    }

    fn to_config(&self) -> Result<Config, Box<dyn std::error::Error>> {
        if self.ephemeral && self.durability == DurabilityFlag::Fsync {
            return Err("--ephemeral keeps nothing, so there is no --durability fsync with it".into());
        }
        let mut config = Config::new();
        config.durability = match self.durability {
            DurabilityFlag::Os => Durability::Os,
            DurabilityFlag::Fsync => Durability::fsync(),
        };
        if self.ephemeral {
            config = config.in_memory();
        } else if let Some(directory) = &self.data_dir {
            config.storage = Some(Storage::Directory(directory.clone()));
        }
        if let Some(path) = &self.config {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            for warning in
                config.read_properties(&text).map_err(|error| format!("{}: {error}", path.display()))?
            {
                tracing::warn!("{}: {warning}", path.display());
            }
        }
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("--set {pair}: KEY=VALUE is expected"))?;
            if let Some(warning) = config.set(key.trim(), value.trim())? {
                tracing::warn!("--set: {warning}");
            }
        }
        config.listeners = self.listeners(&config)?;
        Ok(config)
    }

    fn listeners(&self, config: &Config) -> Result<Vec<ListenerConfig>, Box<dyn std::error::Error>> {
        let mut listen: Vec<&str> = self.listen.iter().map(String::as_str).collect();
        if listen.is_empty() && !config.has_listeners() {
            listen.push(DEFAULT_LISTEN);
        }
        if self.advertise.len() > listen.len() {
            return Err("there are more --advertise than --listen".into());
        }
        let mut listeners = Vec::new();
        for (at, address) in listen.iter().enumerate() {
            let (host, port) = host_and_port("--listen", address)?;
            let mut listener = ListenerConfig::plaintext(host, port);
            if at > 0 {
                listener.name = format!("PLAINTEXT_{at}");
            }
            listener.advertised =
                self.advertise.get(at).map(|told| host_and_port("--advertise", told)).transpose()?;
            listeners.push(listener);
        }
        Ok(listeners)
    }
}

fn host_and_port(flag: &str, address: &str) -> Result<(String, u16), String> {
    let parsed =
        address.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parsed.ok_or_else(|| format!("{flag} {address}: HOST:PORT is expected"))
}

/// Writes the port so that a reader sees all of it or nothing.
fn write_port(path: &Path, port: u16) -> Result<(), String> {
    let part = path.with_extension("part");
    fs::write(&part, format!("{port}\n"))
        .and_then(|()| fs::rename(&part, path))
        .map_err(|error| format!("--port-file {}: {error}", path.display()))
}

/// The signals that stop the broker.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
