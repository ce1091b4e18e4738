//! YAML as a tree with byte ranges, so that every later finding can point at its place.
//!
//! Built from the parser's events rather than into typed structs: a struct stops at its first error, and a person who
//! writes a contract wants all of them. Quoting is kept, because `"1"` and `1` are not the same default.
//!
//! Aliases are copied in place. Tags, merge keys and several documents have no meaning here and are refused.

pub mod reader;

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError};

pub use reader::{MapReader, Report, Text};

/// Most nodes of one file, aliases copied: far more than any contract, far less than memory.
const NODES_MAX: usize = 200_000;

/// Deepest nesting of one file; the format itself needs six levels.
const DEPTH_MAX: usize = 64;

/// A node and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// What it is.
    pub kind: NodeKind,
}

/// The three kinds of nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// A text; `plain` when it is not quoted, so that it may be a null, a number or a boolean.
    Scalar {
        /// After escapes.
        text: String,
        /// Not quoted.
        plain: bool,
    },
    /// `[a, b]`
    Sequence(Vec<Node>),
    /// `{a: b}`, in file order, duplicates included.
    Mapping(Vec<Entry>),
}

/// One pair of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Usually a scalar.
    pub key: Node,
    /// Its value.
    pub value: Node,
}

/// Why a text is no YAML that we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Lower-case diagnosis.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
}

impl Node {
    /// True for an empty value, `~` and `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null.
    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            _ if self.is_null() => "nothing",
            NodeKind::Scalar { .. } => "a text",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
        }
    }

    /// Follows a JSON pointer as far as it leads; for a mapping's member `of_key` points at the key.
    pub fn locate(&self, pointer: &str, of_key: bool) -> Range<usize> {
        let mut node = self;
        let mut span = self.span.clone();
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                NodeKind::Scalar { .. } => None,
                NodeKind::Sequence(items) => {
                    step.parse::<usize>().ok().and_then(|at| items.get(at)).map(|item| (item, &item.span))
                }
                NodeKind::Mapping(entries) => entries
                    .iter()
                    .find(|entry| matches!(&entry.key.kind, NodeKind::Scalar { text, .. } if *text == step))
                    .map(|entry| (&entry.value, if of_key { &entry.key.span } else { &entry.value.span })),
            };
            let Some((value, place)) = next else { break };
            node = value;
            span = place.clone();
        }
        span
    }
}

/// Parses one document; an empty text is an empty mapping.
pub fn parse(text: &str) -> Result<Node, Malformed> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| malformed(text, &error))?;
        builder.event(event, span.byte_range().unwrap_or(0..0))?;
    }
    let empty = Node { span: 0..0, kind: NodeKind::Mapping(Vec::new()) };
    Ok(match builder.root {
        Some(root) if root.is_null() => empty,
        Some(root) => root,
        None => empty,
    })
}

fn malformed(text: &str, error: &ScanError) -> Malformed {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    Malformed { message: format!("this is not YAML: {}", error.info().trim_end_matches('.')), span: at..at }
}

/// A text as a YAML scalar that reads back as this text: plain where that is safe, else in double quotes.
pub fn scalar(text: &str) -> String {
    let plain_character =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | '/' | '{' | '}' | '@' | ' ');
    let special = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~"];
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !text.ends_with(' ')
        && text.chars().all(plain_character)
        && !special.contains(&text.to_ascii_lowercase().as_str());
    // JSON's strings are YAML's double-quoted ones.
    if safe { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The same inside brackets or braces, where a comma or a brace would end it.
pub fn flow_scalar(text: &str) -> String {
    if text.contains([',', '{', '}']) { serde_json::Value::from(text).to_string() } else { scalar(text) }
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    children: Children,
}

enum Children {
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>, Option<Node>),
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Malformed> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                let kind = NodeKind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.complete(Node { span, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                self.open(span, anchor, Children::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                self.open(span, anchor, Children::Mapping(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                let kind = match open.children {
                    Children::Sequence(items) => NodeKind::Sequence(items),
                    Children::Mapping(entries, _) => NodeKind::Mapping(entries),
                };
                self.complete(Node { span: open.start..span.end.max(open.start), kind }, open.anchor)
            }
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => self.complete(Node { span, ..node }, 0),
                None => Err(Malformed { message: "this alias stands inside what it repeats".into(), span }),
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Malformed { message: "a second document in one file".into(), span })
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Range<usize>, anchor: usize, children: Children) -> Result<(), Malformed> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(Malformed { message: format!("nested deeper than {DEPTH_MAX} levels"), span });
        }
        self.stack.push(Open { start: span.start, anchor, children });
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(size(&node));
        if self.nodes > NODES_MAX {
            return Err(Malformed { message: format!("more than {NODES_MAX} values in one file"), span: node.span });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|open| &mut open.children) {
            None => self.root = Some(node),
            Some(Children::Sequence(items)) => items.push(node),
            Some(Children::Mapping(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(name) => entries.push(Entry { key: name, value: node }),
            },
        }
        Ok(())
    }
}

/// What a completed node adds to the count: itself, and all of it where it is an alias's copy. A collection's children
/// are counted twice at every level, which only makes the limit stricter.
fn size(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Scalar { .. } => 1,
        NodeKind::Sequence(items) => items.iter().fold(1, |sum, item| sum.saturating_add(size(item))),
        NodeKind::Mapping(entries) => {
            entries.iter().fold(1, |sum, entry| sum.saturating_add(size(&entry.key)).saturating_add(size(&entry.value)))
        }
    }
}

fn refuse_tag(tagged: bool, span: &Range<usize>) -> Result<(), Malformed> {
    match tagged {
        true => Err(Malformed { message: "YAML tags have no meaning here".into(), span: span.clone() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_point_into_the_text_also_after_wide_characters() {
        let text = "ö: {a: 'x', größe: [1, zwei]}\n";
        let root = parse(text).unwrap();
        let span = root.locate("/ö/größe/1", false);
        assert_eq!(&text[span], "zwei");
        assert_eq!(&text[root.locate("/ö/größe", true)], "größe");
    }

    #[test]
    fn quoting_tells_a_text_from_a_null() {
        let root = parse("a: ~\nb: '~'\nc:\n").unwrap();
        let NodeKind::Mapping(entries) = root.kind else { panic!() };
        assert_eq!(entries.iter().map(|e| e.value.is_null()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let item = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", "));
        }
        assert!(parse(&text).unwrap_err().message.contains("more than"));
    }

    #[test]
    fn deep_nesting_is_refused_without_a_crash() {
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        for text in ["", "# nothing\n", "---\n"] {
            assert_eq!(parse(text).unwrap().kind, NodeKind::Mapping(vec![]), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_written_scalar_reads_back(text in "\\PC{1,20}|[a-z:# {}]{1,8}|true|No|-1|1e3|0x1f|~") {
            for (yaml, pointer) in [(format!("k: {}", scalar(&text)), "/k"), (format!("[{}]", flow_scalar(&text)), "/0")] {
                let root = parse(&yaml).unwrap();
                let node = match &root.kind {
                    NodeKind::Mapping(entries) => &entries[0].value,
                    NodeKind::Sequence(items) => &items[0],
                    NodeKind::Scalar { .. } => panic!("{yaml} {pointer}"),
                };
                proptest::prop_assert_eq!(node.scalar(), Some(text.as_str()), "{}", yaml);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[a-z:\\- \\[\\]{}&*!|>'\"\n]{0,80}") {
            let _ = parse(&text);
        }
    }
}
