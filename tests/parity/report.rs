//! What was found, gathered by scenario and printed at its end.

use std::collections::{BTreeMap, BTreeSet};

use oncelog_wire::ApiKey;

use crate::agreed::{self, Agreed};
use crate::compare::Difference;
use crate::value::Value;

/// How much of a value is printed.
const WIDTH: usize = 160;

/// The differences of a run.
#[derive(Default)]
pub struct Report {
    shows_answers: bool,
    shows_agreed: bool,
    scenario: &'static str,
    found: Vec<Found>,
    asked: usize,
    all_asked: usize,
    all_found: usize,
    all_agreed: usize,
    reasons: BTreeMap<&'static str, usize>,
}

/// A difference, and the versions it is met in.
struct Found {
    api: ApiKey,
    what: String,
    versions: BTreeSet<i16>,
    difference: Difference,
    agreed: Option<&'static Agreed>,
}

impl Report {
    /// An empty report. It may print the reference's answers as they come, and the differences that are agreed.
    pub fn new(shows_answers: bool, shows_agreed: bool) -> Report {
        Report { shows_answers, shows_agreed, ..Report::default() }
    }

    /// Begins a scenario.
    pub fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        self.asked = 0;
    }

    /// Takes note of one request and of how its answers differ.
    pub fn asked(
        &mut self,
        api: ApiKey,
        what: &str,
        version: i16,
        answer: &Value,
        differences: Vec<Difference>,
    ) {
        self.asked += 1;
        if self.shows_answers {
            println!("  {api} v{version} {what}: {answer}");
        }
        for difference in differences {
            let known =
                |found: &&mut Found| found.api == api && found.what == what && found.difference == difference;
            if let Some(found) = self.found.iter_mut().find(known) {
                found.versions.insert(version);
                continue;
            }
            let agreed = agreed::find(api, what, &difference);
            self.found.push(Found {
                api,
                what: what.to_owned(),
                versions: [version].into(),
                difference,
                agreed,
            });
        }
    }

    /// Prints what a scenario has found.
    pub fn end(&mut self) {
        let found = std::mem::take(&mut self.found);
        let agreed = found.iter().filter(|found| found.agreed.is_some()).count();
        let open = found.len() - agreed;
        println!("{}: {} requests, {open} differences, {agreed} agreed", self.scenario, self.asked);
        for Found { api, what, versions, difference, agreed } in &found {
            if let Some(agreed) = agreed {
                *self.reasons.entry(agreed.because).or_default() += 1;
                if !self.shows_agreed {
                    continue;
                }
            }
            let versions: Vec<_> = versions.iter().map(i16::to_string).collect();
            println!("  {api} v{} {what}: {}", versions.join(","), difference.path);
            println!("      reference  {}", cut(&difference.reference));
            println!("      broker     {}", cut(&difference.broker));
            if let Some(agreed) = agreed {
                println!("      agreed     {}", agreed.because);
            }
        }
        self.all_asked += self.asked;
        self.all_found += open;
        self.all_agreed += agreed;
    }

    /// Prints the sums, and says whether all is as it should be.
    pub fn finish(&self) -> bool {
        for (because, count) in &self.reasons {
            println!("agreed {count:4}  {because}");
        }
        println!("{} requests, {} differences, {} agreed", self.all_asked, self.all_found, self.all_agreed);
        self.all_found == 0
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
