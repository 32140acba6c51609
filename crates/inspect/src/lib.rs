//!
//! Nothing here writes, repairs or recovers. The formats are read anew, apart from the code that writes them, so that
//! an error there does not hide itself; only batches and the records of internal topics are read by the crates that
//! own them. Memory is bounded by one batch, one index, and what the broker itself would hold of producers and
//! transactional ids.

mod batch_reader;
mod check;
mod directory;
mod dump;
mod entries;
mod error;
mod finding;
mod log_files;
mod time;

pub use check::{Event, Progress, Summary, check};
pub use dump::{BatchesToDump, dump_batches, dump_groups, dump_transactions};
pub use error::InspectError;
pub use finding::{Finding, Severity};
