//! The page on the kinds of events, and what `evenkeel explain KIND` says of one: both from the declarations.

use std::fmt::Write as _;

use kernel::event::{Declared, EventKind};
use kernel::journal::{FOLD_AFTER, FOLD_QUIET, FOLD_WINDOW};

use crate::config::reference::cell;

/// The page, in Markdown.
pub(crate) fn page() -> String {
    let mut page = format!(
        "# Events\n\nWhat the journal tells, by kind. `evenkeel journal` and `GET /v1/journal` read it; each event is also a line \
         of the log and counts in `evenkeel_events_total`. This page is generated from the program; `evenkeel explain KIND` says \
         the same of one kind, offline.\n\nA kind is never renamed or removed, and never means something else. Its version rises \
         when a field changes its meaning or goes. A *mark* is shown as a change on charts. Where repetitions *fold*, the first \
         {FOLD_AFTER} about one service and endpoint within {} s are told as they come; further ones become one record with a \
         count, told once it has been quiet for {} s.\n\n| Kind | Level | Mark | Folds | When |\n| --- | --- | --- | --- | --- |\n",
        FOLD_WINDOW.as_secs(),
        FOLD_QUIET.as_secs(),
    );
    let mut out = |text: String| page.push_str(&text);
    for kind in EventKind::ALL {
        let Declared { name, level, is_mark, may_fold, meaning, .. } = kind.declared();
        let anchor = name.replace('.', "");
        out(format!(
            "| [`{name}`](#{anchor}) | {level} | {} | {} | {} |\n",
            yes(is_mark),
            yes(may_fold),
            cell(meaning.trim())
        ));
    }
    for kind in EventKind::ALL {
        out(format!("\n## {}\n\n{}", kind.name(), about(*kind)));
    }
    page
}

/// What there is to say of one kind, in Markdown.
pub(crate) fn explained(kind: EventKind) -> String {
    format!("# {}\n\n{}", kind.name(), about(kind))
}

fn about(kind: EventKind) -> String {
    let Declared { version, level, is_mark, may_fold, meaning, fields, sentence, .. } = kind.declared();
    let mark = if is_mark { "a mark" } else { "no mark" };
    let folds = if may_fold { "repetitions fold" } else { "each is told" };
    let mut text = format!(
        "{}\n\nLevel {level}, {mark}, {folds}, version {version}.\n\n> {sentence}\n\n| Field | What it is |\n| --- | --- |\n",
        meaning.trim()
    );
    for (field, about) in fields {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "| `{field}` | {} |", cell(about.trim()));
    }
    text
}

const fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_page_with_its_sentence() {
        let page = page();
        for kind in EventKind::ALL {
            assert!(page.contains(&format!("\n## {}\n", kind.name())), "{}", kind.name());
            assert!(page.contains(&format!("> {}\n", kind.declared().sentence)), "{}", kind.name());
        }
    }
}
