//! Aligned columns for people: heads in capitals, two blanks between, nothing that moves a cursor.

use console::words::tame;

/// A column: its head, and whether its cells are flush right, as numbers are.
pub(crate) type Column = (&'static str, bool);

/// Renders `rows`; the last column is not padded.
pub(crate) fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let lines: Vec<Vec<String>> =
        std::iter::once(heads).chain(rows.iter().map(|row| row.iter().map(|cell| tame(cell)).collect())).collect();
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(columns).zip(&widths);
        let cells = cells.map(|((cell, (_, right)), width)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_tamed() {
        let rows = [["shop", "7", "fine\u{1b}[31m"], ["images", "1200", ""]].map(|row| row.map(String::from).to_vec());
        let text = render(&[("NAME", false), ("N", true), ("WHY", false)], &rows);
        assert_eq!(text, "NAME       N  WHY\nshop       7  fine [31m\nimages  1200\n");
    }
}
