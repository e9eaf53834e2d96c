//! What people see: aligned tables, progress on a terminal, figures in readable form.
//!
//! Owns nothing. Invariant: everything for people goes to standard error, but for the tables, which are the result.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line of the result.
pub fn say(line: &str) {
    // A closed pipe (`| head`) is no fault of the measurement.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Prints a remark.
pub fn note(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// A progress bar with rate and time left; silent where there is no terminal.
pub fn bar(total: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total).with_message(what);
    let template = "{msg:20} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A table whose first column is text and whose others are right-aligned.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            let (before, after) = if c == 0 { ("", pad.as_str()) } else { (pad.as_str(), "") };
            line.push_str(if c == 0 { "" } else { "  " });
            line.push_str(&format!("{before}{cell}{after}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of cells.
pub fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// `12 345`.
pub fn grouped(n: f64) -> String {
    let digits = format!("{:.0}", n.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if n < 0.0 { format!("-{text}") } else { text }
}

/// A figure with as many digits as it is worth: four significant ones, no zeros at the end.
pub fn short(x: f64) -> String {
    let whole = x.abs().log10().floor().max(-3.0);
    let decimals = if x == 0.0 { 0 } else { (3.0 - whole).clamp(0.0, 6.0) as usize };
    if x.abs() >= 10_000.0 {
        return grouped(x);
    }
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `12.3 MiB`.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The middle value; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(1_234_567.4), "1 234 567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(-1_000.0), "-1 000");
        assert_eq!(
            [0.0, 3.0, 2.514_9, 0.000_12, 999.96, 36_779.2].map(short),
            ["0", "3", "2.515", "0.00012", "1000", "36 779"]
        );
        assert_eq!(mebibytes(3 << 19), "1.5 MiB");
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0, "nothing has no middle");
    }

    #[test]
    fn columns_line_up() {
        let text = table(&[cells(["sender", "rate"]), cells(["a", "1"]), cells(["longer name", "12 345"])]);
        assert_eq!(text, "sender         rate\na                 1\nlonger name  12 345\n", "first left, others right");
    }
}
