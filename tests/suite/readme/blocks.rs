//! The fenced blocks of a page, and what the comments above them say.

/// What a block is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is run. The mode is empty, `background` or `eventually`.
    Run { group: String, mode: String },
    /// The block before it prints this.
    Prints,
    /// The file at this path holds this.
    File(String),
    /// It is only read.
    None,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// What stands behind its first fence.
    pub language: String,
    /// What is between the fences.
    pub text: String,
    /// By the comment on the line above it.
    pub purpose: Purpose,
}

/// All fenced blocks of a page, in order. A comment of an unknown kind above one is an error.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut above = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            let text = text.join("\n") + "\n";
            blocks.push(Block { language: language.to_owned(), text, purpose: purpose(above) });
        }
        above = line;
    }
    blocks
}

fn purpose(comment: &str) -> Purpose {
    let Some(inner) = comment.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else {
        return Purpose::None;
    };
    match inner.split_once(": ") {
        None if inner == "prints" => Purpose::Prints,
        Some(("file", path)) => Purpose::File(path.to_owned()),
        Some(("run", what)) => {
            let (group, mode) = what.split_once(' ').unwrap_or((what, ""));
            assert!(
                matches!(group, "files" | "kafka") && matches!(mode, "" | "background" | "eventually"),
                "{comment}"
            );
            Purpose::Run { group: group.to_owned(), mode: mode.to_owned() }
        }
        _ => panic!("what does `{comment}` mean?"),
    }
}

/// The first line of `shown` that `text` does not have, after those before it.
pub fn missing_line(shown: &str, text: &str) -> Option<String> {
    let mut lines = text.lines();
    shown
        .lines()
        .filter(|line| !line.trim().is_empty())
        .find(|line| !lines.any(|have| fits(line, have)))
        .map(str::to_owned)
}

/// Whether a line is the shown one, where `…` is anything and blanks count as one.
fn fits(shown: &str, line: &str) -> bool {
    let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (blanks(shown), blanks(line));
    let parts: Vec<&str> = shown.split('…').collect();
    let [first, .., last] = parts.as_slice() else { return shown == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some((_, after)) = rest.split_once(part.trim()) else { return false };
        rest = after;
    }
    rest.ends_with(last.trim_start())
}

#[test]
fn what_is_not_printed_is_found() {
    let printed = "a  1 x\nb 2 y\nc 3\n";
    for (shown, missing) in [
        ("a 1 x\nc 3", None),
        ("a … x\nb … y", None),
        ("a …", None),
        ("… 3", None),
        ("a … y", Some("a … y")),
        ("b 2 y\na 1 x", Some("a 1 x")),
        ("a 1", Some("a 1")),
        ("d", Some("d")),
    ] {
        assert_eq!(missing_line(shown, printed).as_deref(), missing, "{shown}");
    }
}

#[test]
fn a_block_takes_the_comment_above_it() {
    let page = "<!-- run: files background -->\n```sh\nx\n```\n<!-- prints -->\n```text\ny\n\n```\n```\nz\n```\n";
    let found: Vec<(Purpose, String)> = blocks(page).into_iter().map(|block| (block.purpose, block.text)).collect();
    let run = Purpose::Run { group: "files".into(), mode: "background".into() };
    assert_eq!(found, [(run, "x\n".into()), (Purpose::Prints, "y\n\n".into()), (Purpose::None, "z\n".into())]);
}
