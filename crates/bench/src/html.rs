//! A page that compares runs, with all that it needs in one file. Runs of one shape are put side by side; several runs
//! of one broker in one shape are rounds, of which that with the middle rate stands for all.

use std::fmt::Write;

use crate::chart::{Bar, Line, Scale, bars, colour, escaped, lines};
use crate::compare::{Comparison, Group};
use crate::table::{grouped, micros_text, ms_text};
use crate::{Latency, Report};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ddd; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #aaa; --line: #444; --paper: #1b1b1d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2.5em; border-top: 1px solid var(--line); padding-top: 1em; }
h3 { font-size: 1em; margin: 1.5em 0 .3em; } p, figcaption { color: var(--soft); margin: .3em 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .6em; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--ink); }
.grid { stroke: var(--line); } .range { stroke: var(--ink); stroke-width: 2; } polyline { fill: none; stroke-width: 2; }
.scroll { overflow-x: auto; } .key { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
";

/// The page for some runs.
pub fn html(reports: &[Report]) -> String {
    let comparison = Comparison::of(reports);
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\"><title>oncelog bench</title>");
    push(
        &mut page,
        format_args!("<style>{STYLE}</style></head><body>\n<h1>{}</h1>\n", title(&comparison.names)),
    );
    for machine in machines(reports) {
        push(&mut page, format_args!("<p>{}</p>\n", escaped(&machine)));
    }
    for (shape, groups) in &comparison.shapes {
        section(&mut page, shape, groups);
    }
    page + "</body></html>\n"
}

fn title(names: &[&str]) -> String {
    match names {
        [] => "No runs".to_owned(),
        [name] => escaped(name),
        names => escaped(&names.join(" · ")),
    }
}

/// Where and when the runs were made.
fn machines(reports: &[Report]) -> Vec<String> {
    let mut machines: Vec<String> = Vec::new();
    for report in reports {
        let text = report.machine.to_string();
        if !machines.contains(&text) {
            machines.push(text);
        }
    }
    let times = || reports.iter().map(|report| report.started.as_str());
    if let (Some(first), Some(last)) = (times().min(), times().max()) {
        machines.push(match first == last {
            true => format!("{first} UTC"),
            false => format!("{first} to {last} UTC"),
        });
    }
    machines
}

fn section(page: &mut String, shape: &str, groups: &[Group<'_>]) {
    let Some(first) = groups.first().map(Group::typical) else { return };
    let unit = first.unit();
    push(page, format_args!("<h2>{}</h2>\n", escaped(shape)));
    let rates = groups.iter().filter_map(|group| bar(group, |round| Some(round.rate()), grouped));
    figure(page, &format!("Rate, {unit}"), "More is better.", &bars(&rates.collect::<Vec<_>>()));
    let costs: Vec<Bar> = groups
        .iter()
        .filter_map(|group| {
            let cost = |round: &Report| round.broker_process.map(|process| process.cpu_us_each);
            bar(group, cost, |micros| format!("{} µs", micros_text(micros)))
        })
        .collect();
    if !costs.is_empty() {
        let each = first.each();
        figure(page, &format!("CPU time of the broker, a {each}"), "Less is better.", &bars(&costs));
    }
    table(page, groups);
    legend(page, groups);
    let distributions: Vec<Line> =
        groups.iter().map(|group| line(group, distribution(&group.typical().latency).into_iter())).collect();
    let svg = lines(&distributions, (Scale::Nines, "percentile"), (Scale::Logarithmic, "ms"));
    figure(page, "Latency", &format!("{}. Less is better.", first.latency_is), &svg);
    let over_time = |value: fn(&crate::Point) -> f64| -> Vec<Line> {
        let points = |report: &Report| -> Vec<_> {
            report.timeline.iter().map(|point| (point.at_seconds, value(point))).collect()
        };
        groups.iter().map(|group| line(group, points(group.typical()).into_iter())).collect()
    };
    let svg = lines(&over_time(|point| point.rate), (Scale::Linear, "seconds"), (Scale::Linear, unit));
    figure(page, "Rate over time", "", &svg);
    let svg = lines(&over_time(|point| point.p99_ms), (Scale::Linear, "seconds"), (Scale::Logarithmic, "ms"));
    figure(page, "99th percentile over time", "", &svg);
}

/// Percentiles and milliseconds. The largest of so many is drawn where that one is, as 100 % is infinitely far away.
fn distribution(latency: &Latency) -> Vec<(f64, f64)> {
    let last = 100.0 - 100.0 / latency.samples.max(2) as f64;
    latency.percentiles.iter().map(|step| (step.percentile.min(last), step.ms)).collect()
}

/// The middle of all rounds, and their range.
fn bar(
    group: &Group<'_>,
    value: impl Fn(&Report) -> Option<f64>,
    text: impl Fn(f64) -> String,
) -> Option<Bar> {
    let spread = group.spread(value)?;
    Some(Bar {
        name: group.name().to_owned(),
        value: spread.middle,
        range: (group.rounds.len() > 1).then_some((spread.least, spread.most)),
        text: text(spread.middle),
        colour: colour(group.number),
    })
}

fn line(group: &Group<'_>, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line { points: points.collect(), colour: colour(group.number) }
}

fn figure(page: &mut String, title: &str, caption: &str, svg: &str) {
    push(page, format_args!("<h3>{}</h3><figure style=\"margin:0\">{svg}", escaped(title)));
    push(page, format_args!("<figcaption>{}</figcaption></figure>\n", escaped(caption)));
}

fn legend(page: &mut String, groups: &[Group<'_>]) {
    page.push_str("<p>");
    for group in groups {
        let (colour, name) = (colour(group.number), escaped(group.name()));
        push(page, format_args!("<span class=\"key\" style=\"background:{colour}\"></span>{name} &nbsp; "));
    }
    page.push_str("</p>\n");
}

fn table(page: &mut String, groups: &[Group<'_>]) {
    page.push_str("<h3>Numbers</h3><div class=\"scroll\"><table><tr><th></th>");
    for head in [
        "rate",
        "MiB/s",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "max",
        "broker CPU s",
        "peak MiB",
        "generator CPU s",
    ] {
        push(page, format_args!("<th>{head}</th>"));
    }
    page.push_str("</tr>\n");
    for group in groups {
        let report = group.typical();
        let latency = &report.latency;
        let of_broker = |value: fn(&crate::ProcessUse) -> String| {
            report.broker_process.as_ref().map_or("–".to_owned(), value)
        };
        let cells = [
            grouped(report.rate()),
            format!("{:.1}", report.rates.mib),
            ms_text(latency.p50_ms),
            ms_text(latency.p90_ms),
            ms_text(latency.p99_ms),
            ms_text(latency.p999_ms),
            ms_text(latency.max_ms),
            of_broker(|process| format!("{:.2}", process.cpu_seconds)),
            of_broker(|process| format!("{:.0}", process.peak_memory_mib)),
            format!("{:.2}", report.generator_cpu_seconds),
        ];
        push(page, format_args!("<tr><td>{}</td>", escaped(group.name())));
        cells.iter().for_each(|cell| push(page, format_args!("<td>{cell}</td>")));
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    for group in groups {
        push(page, format_args!("<p>{}</p>\n", escaped(&remarks(group))));
    }
}

/// What one has to know to believe the numbers.
fn remarks(group: &Group<'_>) -> String {
    let report = group.typical();
    let settings = &report.settings;
    let mut text = format!("{}: ", group.name());
    match group.rounds.len() {
        1 => text.push_str("one run"),
        rounds => push(&mut text, format_args!("the middle one of {rounds} runs, and the range of all")),
    }
    let warmup = settings.warmup.as_secs_f64();
    push(&mut text, format_args!(", {:.1} s after {warmup:.1} s of warm-up", report.seconds));
    if settings.is_transactional() {
        let used = report.broker.used_transaction_version;
        push(&mut text, format_args!("; transaction version {used}"));
    }
    push(&mut text, format_args!("; errors: {}", report.errors_text()));
    if report.retries > 0 {
        push(&mut text, format_args!("; {} requests repeated", report.retries));
    }
    if report.not_started > 0 {
        push(
            &mut text,
            format_args!("; {} operations never started, the rate was too high", report.not_started),
        );
    }
    if let Some(verified) = &report.verified {
        let verdict = if verified.is_right() { "all records are there once" } else { "RECORDS ARE WRONG" };
        push(&mut text, format_args!("; {verdict}"));
    }
    text + "."
}

fn push(page: &mut String, piece: std::fmt::Arguments<'_>) {
    page.write_fmt(piece).expect("a string takes whatever is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::invented;
    use crate::{Settings, Workload};

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_says_what_it_compares() {
        let page = html(&[invented("one", 1000.0), invented("other <b>", 4000.0)]);
        for forbidden in ["<script", "src=", "href=", "url(", "@import", "other <b>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("one · other &lt;b&gt;"));
        assert_eq!(page.matches("<h2>").count(), 1);
        assert_eq!(page.matches("<polyline").count(), 6);
        assert!(page.contains("4,000") && page.contains("2 × PRODUCER_FENCED"));
    }

    #[test]
    fn shapes_are_apart_and_rounds_together() {
        let mut consume = invented("one", 7.0);
        consume.settings = Settings { workload: Workload::Consume, ..consume.settings };
        let rounds = [invented("one", 3000.0), invented("one", 1000.0), invented("one", 2000.0), consume];
        let page = html(&rounds);
        assert_eq!(page.matches("<h2>").count(), 2);
        assert!(page.contains("one: the middle one of 3 runs") && page.contains("one: one run"));
        assert!(page.contains(">2,000<") && !page.contains(">3,000<"));
    }

    #[test]
    fn a_page_without_runs_is_a_page() {
        assert!(html(&[]).contains("No runs"));
    }
}
