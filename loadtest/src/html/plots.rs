//! The plots of a report as SVG, drawn by plotters.
//!
//! Owns no state. Invariants: 1. vertical axes begin at 0, so that a small difference does not look like a large one; 2.
//! colours are told apart by those who see few (Okabe, Ito, "Color Universal Design", 2008).

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::findings::{Chart, Latency, Line, Scale};
use crate::report::Report;
use crate::text::{grouped, short};

const SIZE: (u32, u32) = (880, 330);
/// Blue, vermilion, green, orange, purple, sky, black.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
/// A line of fewer points shows each of them.
const DOTTED_MAX: usize = 40;
const FONT: &str = "sans-serif";

/// What went wrong in drawing.
#[derive(Debug)]
pub struct Undrawn(String);

impl std::fmt::Display for Undrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "drawing a plot: {}", self.0)
    }
}

impl std::error::Error for Undrawn {}

type Drawn<T> = Result<T, Undrawn>;

fn undrawn(error: impl std::fmt::Display) -> Undrawn {
    Undrawn(error.to_string())
}

/// Every chart that has something to show, then the percentiles.
pub fn all(report: &Report) -> Drawn<Vec<String>> {
    let shown = |chart: &&Chart| chart.lines.iter().any(|line| line.points.len() > 1);
    let mut plots = report.found.charts.iter().filter(shown).map(chart).collect::<Drawn<Vec<_>>>()?;
    let latencies: Vec<&Latency> = report.found.latencies.iter().filter(|l| l.percentiles.len() > 1).collect();
    if !latencies.is_empty() {
        plots.push(percentiles(&latencies)?);
    }
    Ok(plots)
}

/// How the horizontal axis is written.
type Written = fn(f64) -> String;

struct Axis<'a> {
    label: &'a str,
    written: Written,
}

fn chart(chart: &Chart) -> Drawn<String> {
    let (place, written): (fn(f64) -> f64, Written) = match chart.scale {
        Scale::Linear if counts(chart) => (|x| x, whole),
        Scale::Linear => (|x| x, |x| short(x)),
        Scale::Logarithmic => (|x| x.max(1e-9).log10(), power_of_ten),
    };
    let placed = |line: &Line| Line {
        name: line.name.clone(),
        points: line.points.iter().map(|(x, y)| (place(*x), *y)).collect(),
    };
    let lines: Vec<Line> = chart.lines.iter().map(placed).collect();
    draw(&chart.title, &Axis { label: &chart.x, written }, &chart.y, &lines)
}

/// Whether the horizontal axis counts something: rounds, kills.
fn counts(chart: &Chart) -> bool {
    chart.lines.iter().flat_map(|line| &line.points).all(|(x, _)| x.fract() == 0.0 && *x < 100.0)
}

/// `2` at 2, nothing between.
fn whole(x: f64) -> String {
    if (x - x.round()).abs() < 1e-6 { short(x.round()) } else { String::new() }
}

/// `10 000` at 4, nothing between.
fn power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() < 1e-6 { grouped(10f64.powf(exponent.round())) } else { String::new() }
}

/// Times over the share of those that took no longer, stretched towards the slow end as HdrHistogram's plots are.
fn percentiles(latencies: &[&Latency]) -> Drawn<String> {
    let nines = |percent: f64| -(1.0 - percent / 100.0).max(1e-6).log10();
    let line = |latency: &&Latency| {
        let below = latency.percentiles.iter().filter(|(percent, _)| *percent < 100.0);
        let points = below.map(|(percent, seconds)| (nines(*percent), seconds * 1e3)).collect();
        Line { name: latency.name.clone(), points }
    };
    let lines: Vec<Line> = latencies.iter().map(line).collect();
    draw("Times by percentile", &Axis { label: "percentile", written: percent }, "milliseconds", &lines)
}

/// `99.9 %` at three nines, nothing between.
fn percent(nines: f64) -> String {
    if (nines - nines.round()).abs() > 1e-6 {
        return String::new();
    }
    format!("{} %", short(100.0 - 100.0 * 10f64.powf(-nines.round())))
}

fn draw(title: &str, axis: &Axis<'_>, y: &str, lines: &[Line]) -> Drawn<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(undrawn)?;
        let (across, up) = ranges(lines);
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 17))
            .margin(10)
            .margin_right(24)
            .x_label_area_size(38)
            .y_label_area_size(72)
            .build_cartesian_2d(across, up)
            .map_err(undrawn)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .axis_style(BLACK.mix(0.4))
            .label_style((FONT, 13))
            .x_desc(axis.label)
            .y_desc(y)
            .x_label_formatter(&|x| (axis.written)(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()
            .map_err(undrawn)?;
        for (at, line) in lines.iter().enumerate() {
            one(&mut chart, line, COLORS[at % COLORS.len()])?;
        }
        if lines.len() > 1 || lines.iter().any(|line| line.name != title) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .label_font((FONT, 13))
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.15))
                .draw()
                .map_err(undrawn)?;
        }
        root.present().map_err(undrawn)?;
    }
    Ok(svg)
}

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn one(chart: &mut Plane<'_, '_>, line: &Line, color: RGBColor) -> Drawn<()> {
    let series =
        chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2))).map_err(undrawn)?;
    series.label(&line.name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
    if line.points.len() <= DOTTED_MAX {
        let dots = line.points.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(undrawn)?;
    }
    Ok(())
}

/// Ranges of both axes, the vertical one from 0 and with a little room above.
fn ranges(lines: &[Line]) -> (std::ops::Range<f64>, std::ops::Range<f64>) {
    let points =
        || lines.iter().flat_map(|line| line.points.iter().copied()).filter(|(x, y)| x.is_finite() && y.is_finite());
    let left = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let right = points().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
    let top = points().map(|(_, y)| y).fold(0.0, f64::max);
    let across = if left < right { left..right } else { 0.0..1.0 };
    (across, 0.0..if top > 0.0 { top * 1.08 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { name: "a & b".to_owned(), points: points.to_vec() }
    }

    #[test]
    fn axes_begin_at_nothing_and_are_never_empty() {
        assert_eq!(ranges(&[line(&[(1.0, 5.0), (3.0, 10.0)])]), (1.0..3.0, 0.0..10.8));
        assert_eq!(ranges(&[]), (0.0..1.0, 0.0..1.0), "nothing has axes, too");
        assert_eq!(ranges(&[line(&[(2.0, 0.0)])]), (0.0..1.0, 0.0..1.0));
        assert_eq!(
            ranges(&[line(&[(0.0, f64::NAN), (1.0, 1.0), (2.0, 1.0)])]).0,
            1.0..2.0,
            "what is no number is left out"
        );
    }

    #[test]
    fn logarithms_are_written_as_what_they_are_of() {
        assert_eq!([4.0, 4.5, 7.0].map(power_of_ten), ["10 000", "", "10 000 000"]);
        assert_eq!([1.0, 1.5, 2.0].map(whole), ["1", "", "2"]);
        assert_eq!([0.0, 1.0, 1.5, 3.0].map(percent), ["0 %", "90 %", "", "99.9 %"]);
    }

    #[test]
    fn a_chart_is_svg_with_its_names_escaped() {
        let svg = chart(&Chart {
            title: "cost".to_owned(),
            x: "contacts".to_owned(),
            y: "µs".to_owned(),
            scale: Scale::Logarithmic,
            lines: vec![line(&[(1e4, 9.0), (1e7, 10.0)])],
        })
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("a &amp; b") && svg.contains("10 000 000"), "{svg}");
    }
}
