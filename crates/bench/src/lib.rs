//! A load generator for any Kafka-compatible broker, made to measure transactions.
//!
//! [`run`] puts one [`Workload`] on a broker and returns a [`Report`]: rates, latencies, errors, and what it cost the
//! broker. A report prints itself as a table, is stored as JSON, and [`html`] makes one page of several to compare them.
//!
//! The load is a closed loop, in which each producer starts anew when its last operation has ended, or an open one,
//! in which operations start at a given rate. Latencies of an open loop count from when an operation was to start,
//! so that a broker that stalls is charged for all that waited.
//!
//! ```no_run
//! use oncelog_bench::{Settings, Workload};
//!
//! # fn main() -> Result<(), oncelog_bench::BenchError> {
//! let settings = Settings { workload: Workload::Transactions, producers: 16, ..Settings::default() };
//! let report = oncelog_bench::run(&settings, &mut |progress| eprintln!("{progress}"))?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

mod chart;
mod compare;
mod error;
mod html;
mod machine;
mod measure;
mod reader;
mod report;
mod run;
mod schedule;
mod settings;
mod table;
mod workload;

pub use compare::Comparison;
pub use error::BenchError;
pub use html::html;
pub use machine::{Machine, ProcessUse};
pub use measure::{Counts, Latency, Percentile};
pub use report::{Broker, FORMAT, Point, Rates, Report, Verified};
pub use run::{Progress, run};
pub use settings::{Isolation, Settings, Workload};
