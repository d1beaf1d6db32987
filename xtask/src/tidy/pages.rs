//! Rules for the documentation: each error code of the product has a page and each page a code; relative links lead to
//! files that exist. Codes are read from the source of their list, because this program uses no crate of the project.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Finding, allowed};

/// Where the list of codes is.
pub(super) const CODES: &str = "crates/kernel/src/code.rs";
/// Where their pages are.
const PAGES: &str = "docs/errors";

/// Compares the list of codes with the pages among `files`.
pub(super) fn error_pages(source: &str, files: &[PathBuf]) -> Vec<Finding> {
    let codes: BTreeSet<String> = source.lines().filter_map(code).map(str::to_owned).collect();
    let file = Path::new(CODES);
    if codes.is_empty() {
        return vec![Finding::error(file, 0, "has no line of the form `Variant \"code\" 400 Kind \"title\";`")];
    }
    let pages: BTreeSet<&Path> = files.iter().map(PathBuf::as_path).filter(|file| file.starts_with(PAGES)).collect();
    let page = |code: &String| Path::new(PAGES).join(format!("{code}.md"));
    let missing = codes.iter().filter(|code| !pages.contains(page(code).as_path()));
    let missing = missing.map(|code| Finding::error(file, 0, format!("`{code}` has no page {}", page(code).display())));
    let known = |page: &Path| page.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| codes.contains(stem));
    let index = |page: &Path| page.file_stem().is_some_and(|stem| stem == "README" || stem == "index");
    let stray = pages.iter().filter(|page| !known(page) && !index(page));
    missing.chain(stray.map(|page| Finding::error(page, 0, "is the page of no error code"))).collect()
}

/// The code in a line `Variant "code" 400 Kind "title";`.
fn code(line: &str) -> Option<&str> {
    let (variant, rest) = line.trim().split_once('"')?;
    let (code, rest) = rest.split_once('"')?;
    let mut words = rest.split_whitespace();
    let status = words.next()?.parse::<u16>().is_ok();
    let named = !variant.trim().is_empty() && variant.trim().bytes().all(|b| b.is_ascii_alphanumeric());
    (status && named && rest.trim_end().ends_with("\";")).then_some(code)
}

/// Checks the relative links of a Markdown file; `exists` takes a path from the root.
pub(super) fn links(file: &Path, content: &str, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let lines: Vec<&str> = content.lines().collect();
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in lines.iter().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || allowed(&lines, index) {
            continue;
        }
        for target in targets(line) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            if path.is_empty() || target.starts_with("//") || target.split('/').next().is_some_and(|s| s.contains(':'))
            {
                continue;
            }
            match resolve(file, path) {
                Some(to) if exists(&to) => {}
                _ => findings.push(Finding::error(file, index + 1, format!("the link `{target}` leads nowhere"))),
            }
        }
    }
    findings
}

/// What the links and pictures of a line point at, code spans left out.
fn targets(line: &str) -> Vec<String> {
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let definition =
        text.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let first = |target: &str| target.split_whitespace().next().map(|word| word.trim_matches(['<', '>']).to_owned());
    inline.chain(definition).filter_map(first).collect()
}

/// `path` as seen from `file`, as a path from the root; `None` if it leaves the project.
fn resolve(file: &Path, path: &str) -> Option<PathBuf> {
    let start = if path.starts_with('/') { Path::new("") } else { file.parent()? };
    let mut resolved = PathBuf::new();
    for part in start.join(path.trim_start_matches('/')).components() {
        match part {
            Component::ParentDir if !resolved.pop() => return None,
            Component::Normal(name) => resolved.push(name),
            _ => {}
        }
    }
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "codes! {\n    NoRoute \"no-route\" 404 Client \"No route matches\";\n    \
                        Internal   \"internal\"  500 Gateway \"It failed\";\n}\n";

    fn files(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn each_code_has_a_page_and_each_page_a_code() {
        let all = ["docs/errors/no-route.md", "docs/errors/internal.md", "docs/errors/README.md", "docs/other.md"];
        assert_eq!(error_pages(LIST, &files(&all)), []);
        let found = error_pages(LIST, &files(&["docs/errors/no-route.md", "docs/errors/old.md"]));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`internal` has no page docs/errors/internal.md"), "{found:?}");
        assert!(found[1].contains("docs/errors/old.md: is the page of no error code"), "{found:?}");
        assert_eq!(error_pages("enum ErrorCode {}", &[]).len(), 1, "a list that is not found is an error");
    }

    #[test]
    fn relative_links_are_followed_from_their_file() {
        let exists = |path: &Path| path == Path::new("docs/a.md") || path == Path::new("README.md");
        let check = |text: &str| links(Path::new("docs/b.md"), text, exists).len();
        for good in [
            "[x](a.md)",
            "[x](../README.md#top)",
            "[x](/README.md)",
            "[x](#here)",
            "[x](https://e.org/a)",
            "`[x](no.md)`",
            "```\n[x](no.md)\n```",
            "[x]: a.md \"title\"",
            "[x](mailto:a@b)",
        ] {
            assert_eq!(check(good), 0, "{good}");
        }
        for bad in ["[x](no.md)", "![x](../no.png)", "[x](../../README.md)", "[x]: no.md", "a [x](a.md) [y](b/c.md)"] {
            assert_eq!(check(bad), 1, "{bad}");
        }
    }
}
