//! Plots as SVG, drawn by hand: bars, and lines over linear or logarithmic axes.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// The height of one bar and the space below it.
const BAR: f64 = 30.0;
/// Room for the names of bars.
const NAMES: f64 = 190.0;
/// Room for the numbers behind bars.
const NUMBERS: f64 = 150.0;

/// Colours that also those can tell apart who do not see all of them.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b"];

/// The colour of one of several series.
pub(crate) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Text that means nothing to a browser but itself.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// The least and the most, where it is one of several.
    pub(crate) range: Option<(f64, f64)>,
    /// The value as it is shown.
    pub(crate) text: String,
    pub(crate) colour: &'static str,
}

/// Bars from left to right, one below the other.
pub(crate) fn bars(bars: &[Bar]) -> String {
    let height = BAR * bars.len() as f64 + 6.0;
    let most = bars.iter().map(|bar| bar.range.map_or(bar.value, |(_, most)| most)).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - NAMES - NUMBERS) / most } else { 0.0 };
    let mut svg = open(height);
    for (index, bar) in bars.iter().enumerate() {
        let (y, width) = (BAR * index as f64 + 4.0, bar.value * scale);
        let middle = y + 11.0;
        let text_y = y + 15.0;
        let name = escaped(&bar.name);
        text(&mut svg, NAMES - 8.0, text_y, "end", &name);
        let colour = bar.colour;
        push(
            &mut svg,
            format_args!(r#"<rect x="{NAMES}" y="{y:.1}" width="{width:.1}" height="22" fill="{colour}"/>"#),
        );
        let mut end = width;
        if let Some((least, most)) = bar.range {
            let (from, to) = (NAMES + least * scale, NAMES + most * scale);
            push(&mut svg, format_args!(r#"<path class="range" d="M{from:.1} {middle:.1}H{to:.1}"/>"#));
            end = end.max(most * scale);
        }
        text(&mut svg, NAMES + end + 8.0, text_y, "start", &escaped(&bar.text));
    }
    svg + "</svg>"
}

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Logarithmic,
    /// Percentiles, the more room for each the nearer to 100: 90, 99, 99.9 are at even distances.
    Nines,
}

/// A line through points.
pub(crate) struct Line {
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) colour: &'static str,
}

/// Lines over two axes.
pub(crate) fn lines(lines: &[Line], x: (Scale, &str), y: (Scale, &str)) -> String {
    let horizontal = Axis::new(x.0, lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)));
    let vertical = Axis::new(y.0, lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
    let at_x = |value: f64| LEFT + horizontal.place(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - vertical.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(HEIGHT);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (value, label) in vertical.ticks() {
        let y = at_y(value);
        push(&mut svg, format_args!(r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#));
        text(&mut svg, LEFT - 6.0, y + 4.0, "end", &label);
    }
    for (value, label) in horizontal.ticks() {
        let x = at_x(value);
        push(&mut svg, format_args!(r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/>"#));
        text(&mut svg, x, bottom + 16.0, "middle", &label);
    }
    text(&mut svg, (LEFT + right) / 2.0, HEIGHT - 8.0, "middle", &escaped(x.1));
    let middle = (TOP + bottom) / 2.0;
    let label = escaped(y.1);
    push(
        &mut svg,
        format_args!(
            r#"<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{label}</text>"#
        ),
    );
    for line in lines {
        let points: Vec<String> =
            line.points.iter().map(|point| format!("{:.1},{:.1}", at_x(point.0), at_y(point.1))).collect();
        let (points, colour) = (points.join(" "), line.colour);
        push(&mut svg, format_args!(r#"<polyline points="{points}" stroke="{colour}"/>"#));
        if let [only] = line.points[..] {
            let (x, y) = (at_x(only.0), at_y(only.1));
            push(&mut svg, format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
        }
    }
    svg + "</svg>"
}

fn open(height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">"#)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    push(svg, format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
}

fn push(svg: &mut String, piece: std::fmt::Arguments<'_>) {
    svg.write_fmt(piece).expect("a string takes whatever is written");
}

/// The values of one direction, between two bounds.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let (least, most) =
            values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        match scale {
            Scale::Linear => {
                let step = round_step(most / 5.0);
                Axis { scale, from: 0.0, to: (most / step).ceil().max(1.0) * step, step }
            }
            Scale::Logarithmic => {
                let least = if least.is_finite() { least.max(1e-4) } else { 1.0 };
                let (from, to) = (least.log10().floor(), most.max(least).log10().ceil());
                Axis { scale, from, to: to.max(from + 1.0), step: 1.0 }
            }
            Scale::Nines => Axis { scale, from: 0.0, to: nines(most).ceil().max(1.0), step: 1.0 },
        }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(1e-9).log10(),
            Scale::Nines => nines(value),
        };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Values to name, and their names.
    fn ticks(&self) -> Vec<(f64, String)> {
        let count = ((self.to - self.from) / self.step).round() as i32;
        let steps = (0..=count).map(|index| self.from + self.step * f64::from(index));
        let steps = steps.map(|step| match self.scale {
            Scale::Linear => (step, short(step)),
            Scale::Logarithmic => (10_f64.powf(step), short(10_f64.powf(step))),
            Scale::Nines => {
                let percentile = 100.0 - 100.0 * 10_f64.powf(-step);
                (percentile, format!("{}%", round(percentile)))
            }
        });
        steps.collect()
    }
}

/// How many nines a percentile has; 100 has as many as can be told from it.
fn nines(percentile: f64) -> f64 {
    -((100.0 - percentile) / 100.0).max(1e-6).log10()
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

/// A number for an axis: 1500 is 1.5k.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", round(value / 1e6)),
        value if value >= 1e3 => format!("{}k", round(value / 1e3)),
        value => round(value),
    }
}

/// Without digits that are noise.
fn round(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn axes_have_round_numbers() {
        let values = || [3.0, 4_200.0].into_iter();
        assert_eq!(names(&Axis::new(Scale::Linear, values())), ["0", "1k", "2k", "3k", "4k", "5k"]);
        assert_eq!(names(&Axis::new(Scale::Logarithmic, values())), ["1", "10", "100", "1k", "10k"]);
        let percentiles = [50.0, 99.95].into_iter();
        assert_eq!(names(&Axis::new(Scale::Nines, percentiles)), ["0%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn axes_without_values_can_be_drawn() {
        for scale in [Scale::Linear, Scale::Logarithmic, Scale::Nines] {
            let axis = Axis::new(scale, std::iter::empty());
            assert!(axis.ticks().len() >= 2);
            assert!(axis.place(0.0).is_finite());
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let bar = Bar {
            name: "<script>\"&".to_owned(),
            value: 1.0,
            range: Some((0.5, 1.5)),
            text: "1".to_owned(),
            colour: colour(0),
        };
        let svg = bars(&[bar]);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && !svg.contains("<script>"), "{svg}");
    }

    #[test]
    fn lines_stay_within_their_axes() {
        let line = Line { points: vec![(0.0, 0.0), (99.0, 1.0), (100.0, 5.0)], colour: colour(1) };
        let svg = lines(&[line], (Scale::Nines, "percentile"), (Scale::Linear, "ms"));
        assert!(svg.contains(r#"<polyline points="70.0,256.0 "#), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
