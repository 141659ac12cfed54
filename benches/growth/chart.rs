//! The curves as a picture: a panel for each, a line for each peer, both axes logarithmic.

use crate::common::report::shown;
use crate::curves::{Curve, FAMILIES, Family};
use crate::figures::Figures;
use crate::tables::place;

const COLOURS: [&str; 6] = ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f"];
const COLUMNS: usize = 4;
/// A panel, with the room around its axes.
const WIDTH: f64 = 270.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const ABOVE: f64 = 26.0;
const BELOW: f64 = 24.0;
const HEADING: f64 = 34.0;
/// Labels of an axis are no nearer to each other.
const APART: f64 = 26.0;

/// Where the values of an axis are: logarithms, from the least to the most.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from).max(1e-9) * (self.end - self.start)
    }
}

/// Zero has no logarithm: it stands at half of the least place above it.
fn positive(at: u64, least: f64) -> f64 {
    if at == 0 { least / 2.0 } else { at as f64 }
}

fn text_at(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn panel(figures: &Figures, curve: &Curve, left: f64, top: f64) -> String {
    let lines: Vec<_> = figures.peers().iter().map(|p| figures.points(p, curve.id)).collect();
    let places: Vec<u64> = lines.iter().flatten().map(|p| p.0).collect();
    let least = places.iter().filter(|at| **at > 0).min().map_or(1.0, |at| *at as f64);
    let (mut x_from, mut x_to, mut y_from, mut y_to) = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
    for (at, value) in lines.iter().flatten() {
        let x = positive(*at, least).log10();
        (x_from, x_to) = (x_from.min(x), x_to.max(x));
        let y = value.max(1e-6).log10();
        (y_from, y_to) = (y_from.min(y.floor()), y_to.max((y + 1e-9).ceil()));
    }
    let x = Axis { from: x_from, to: x_to, start: left + LEFT, end: left + WIDTH - RIGHT };
    let y = Axis { from: y_from, to: y_to, start: top + HEIGHT - BELOW, end: top + ABOVE };
    let title = format!("{}, {}", curve.title, curve.unit);
    let mut text = text_at(left + LEFT, top + 16.0, "start", &title);
    for decade in y_from as i32..=y_to as i32 {
        let (value, grey) = (10f64.powi(decade), "#ddd");
        let at = y.at(value);
        text += &format!("<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=\"{grey}\"/>\n", x.start, x.end);
        let label = if value >= 1.0 { place(value as u64) } else { value.to_string() };
        text += &text_at(x.start - 5.0, at + 4.0, "end", &label);
    }
    let (mut sorted, mut last) = (places, f64::MIN);
    sorted.sort_unstable();
    sorted.dedup();
    for place_of in sorted {
        let at = x.at(positive(place_of, least));
        if at - last >= APART {
            text += &text_at(at, y.start + 15.0, "middle", &place(place_of));
            last = at;
        }
    }
    for (n, points) in lines.iter().enumerate() {
        let (colour, peer) = (COLOURS[n % COLOURS.len()], &figures.peers()[n]);
        let spots: Vec<(f64, f64, f64)> = points
            .iter()
            .map(|(at, value)| (x.at(positive(*at, least)), y.at(value.max(1e-6)), *value))
            .collect();
        let path: Vec<String> = spots.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        text += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, y, value) in spots {
            text += &format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"><title>{peer}: {}</title></circle>\n",
                shown(value)
            );
        }
    }
    text
}

/// The picture.
pub fn svg(figures: &Figures) -> String {
    let (width, mut top, mut body) = (WIDTH * COLUMNS as f64 + 20.0, 40.0, String::new());
    for (n, peer) in figures.peers().iter().enumerate() {
        let (at, colour) = (20.0 + 110.0 * n as f64, COLOURS[n % COLOURS.len()]);
        body += &format!("<circle cx=\"{at:.1}\" cy=\"20\" r=\"5\" fill=\"{colour}\"/>\n");
        body += &text_at(at + 10.0, 24.0, "start", peer);
    }
    let has = |curve: &&Curve| figures.peers().iter().any(|p| !figures.points(p, curve.id).is_empty());
    for Family { title, axis, curves, .. } in &FAMILIES {
        let curves: Vec<&Curve> = curves.iter().filter(has).collect();
        if curves.is_empty() {
            continue;
        }
        body +=
            &format!("<text x=\"20\" y=\"{:.1}\" font-size=\"15\">{title}: over {axis}</text>\n", top + 22.0);
        top += HEADING;
        for (n, curve) in curves.iter().enumerate() {
            let (row, column) = ((n / COLUMNS) as f64, (n % COLUMNS) as f64);
            body += &panel(figures, curve, 10.0 + column * WIDTH, top + row * HEIGHT);
        }
        top += curves.len().div_ceil(COLUMNS) as f64 * HEIGHT;
    }
    let height = top + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}
