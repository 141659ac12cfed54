//! The ratios as a chart: a row for each workload, a dot for each peer, on a logarithmic axis.

use crate::figures::Figures;
use crate::tables::{phases, ratio};

const COLOURS: [&str; 10] = [
    "#d62728", "#ff9896", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22",
    "#17becf",
];
const ROW: f64 = 18.0;
const LEFT: f64 = 380.0;
const WIDTH: f64 = 560.0;
const TOP: f64 = 60.0;
/// The axis reaches from one 64th to 64 times; what is beyond is drawn at its end.
const OCTAVES: f64 = 6.0;

fn x(ratio: f64) -> f64 {
    LEFT + (ratio.log2().clamp(-OCTAVES, OCTAVES) + OCTAVES) / (2.0 * OCTAVES) * WIDTH
}

/// The picture.
pub fn svg(figures: &Figures) -> String {
    let peers: Vec<&String> = figures.peers().iter().filter(|p| *p != figures.base()).collect();
    let rows: Vec<_> =
        phases(figures).filter(|p| peers.iter().any(|peer| ratio(figures, peer, p).is_some())).collect();
    let (width, bottom) = (LEFT + WIDTH + 30.0, TOP + ROW * rows.len() as f64);
    let height = bottom + 40.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let step = (width - 40.0) / peers.len().max(1) as f64;
    for (n, peer) in peers.iter().enumerate() {
        let (at, colour) = (20.0 + step * n as f64, COLOURS[n % COLOURS.len()]);
        text += &format!("<circle cx=\"{at:.1}\" cy=\"20\" r=\"5\" fill=\"{colour}\"/>\n");
        text += &format!("<text x=\"{:.1}\" y=\"24\">{peer}</text>\n", at + 10.0);
    }
    for octave in -6_i32..=6 {
        let (at, colour) = (x(2f64.powi(octave)), if octave == 0 { "#000" } else { "#ddd" });
        text += &format!("<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"{colour}\"/>\n");
        let label = if octave < 0 { format!("1/{}", 1 << -octave) } else { format!("{}", 1 << octave) };
        text += &format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n", TOP - 8.0);
    }
    for (row, phase) in rows.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        let (end, base) = (LEFT - 12.0, y + 4.0);
        text += &format!("<text x=\"{end}\" y=\"{base}\" text-anchor=\"end\">{}</text>\n", phase.title);
        for (n, peer) in peers.iter().enumerate() {
            if let Some(ratio) = ratio(figures, peer, phase) {
                let (at, colour) = (x(ratio), COLOURS[n % COLOURS.len()]);
                text += &format!(
                    "<circle cx=\"{at:.1}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.8\">\
                     <title>{peer}: {ratio:.2}</title></circle>\n"
                );
            }
        }
    }
    let middle = LEFT + WIDTH / 2.0;
    text += &format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">", bottom + 24.0);
    text + &format!("times as fast as {}</text>\n</svg>\n", figures.base())
}
