//! An expression's text → tokens with their places.

use std::ops::Range;

use super::{ExprError, Operator};

/// A token, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// Not quoted, folded to lower case: a keyword or a column.
    Word(String),
    /// In double quotes: a column.
    Quoted(String),
    /// In single quotes.
    Text(String),
    /// Digits, perhaps with a point.
    Number(String),
    Compare(Operator),
    Concat,
    Minus,
    Open,
    Close,
    Comma,
    End,
}

/// Longest expression, in bytes: a longer one belongs into a view or a program.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The tokens, `End` last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("an expression has at most {TEXT_BYTES_MAX} bytes, this one has {}", text.len());
        return Err(ExprError { message, hint: None, span: 0..1 });
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, len) = token(text.get(at..).unwrap_or_default(), first).map_err(|(message, len)| ExprError {
            message,
            hint: None,
            span: at..at + len,
        })?;
        tokens.push(Token { kind, span: at..at + len });
        at += len;
    }
    tokens.push(Token { kind: TokenKind::End, span: text.len()..text.len() });
    Ok(tokens)
}

/// The token at the beginning of a text and its length, or what is wrong with so many bytes.
fn token(rest: &str, first: char) -> Result<(TokenKind, usize), (String, usize)> {
    let two = rest.get(..2).unwrap_or_default();
    for (sign, kind) in [
        ("||", TokenKind::Concat),
        ("<>", TokenKind::Compare(Operator::NotEqual)),
        ("!=", TokenKind::Compare(Operator::NotEqual)),
        ("<=", TokenKind::Compare(Operator::LessOrEqual)),
        (">=", TokenKind::Compare(Operator::GreaterOrEqual)),
    ] {
        if two == sign {
            return Ok((kind, 2));
        }
    }
    match first {
        '=' => Ok((TokenKind::Compare(Operator::Equal), 1)),
        '<' => Ok((TokenKind::Compare(Operator::Less), 1)),
        '>' => Ok((TokenKind::Compare(Operator::Greater), 1)),
        '(' => Ok((TokenKind::Open, 1)),
        ')' => Ok((TokenKind::Close, 1)),
        ',' => Ok((TokenKind::Comma, 1)),
        '-' => Ok((TokenKind::Minus, 1)),
        '\'' => quoted(rest, '\'').map(|(text, len)| (TokenKind::Text(text), len)),
        '"' => match quoted(rest, '"')? {
            (name, len) if name.is_empty() => Err(("a column's name is not empty".to_owned(), len)),
            (name, len) => Ok((TokenKind::Quoted(name), len)),
        },
        '0'..='9' => number(rest),
        _ if first.is_alphabetic() || first == '_' => {
            let ends = |c: char| !c.is_alphanumeric() && c != '_' && c != '$';
            let word = rest.split_at_checked(rest.find(ends).unwrap_or(rest.len())).map_or(rest, |(word, _)| word);
            // PostgreSQL folds ASCII letters alone in a database of UTF-8.
            Ok((TokenKind::Word(word.to_ascii_lowercase()), word.len()))
        }
        '+' | '*' | '/' | '%' => Err((format!("`{first}`: there is no arithmetic in expressions yet"), 1)),
        _ => Err((format!("`{first}` has no meaning here"), first.len_utf8())),
    }
}

/// A text in quotes, of which a doubled one stands for itself.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), (String, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            if character == '\0' {
                return Err(("PostgreSQL knows no text with a zero character".to_owned(), rest.len()));
            }
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, at + 1));
        }
    }
    Err((format!("the closing `{quote}` is missing"), rest.len()))
}

fn number(rest: &str) -> Result<(TokenKind, usize), (String, usize)> {
    let ends = |c: char| !c.is_alphanumeric() && c != '.' && c != '_';
    let number = rest.split_at_checked(rest.find(ends).unwrap_or(rest.len())).map_or(rest, |(number, _)| number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    match digits(whole) && digits(fraction) && !leading_zero {
        true => Ok((TokenKind::Number(number.to_owned()), number.len())),
        false => Err((format!("`{number}` is no number such as `12` or `0.50`"), number.len())),
    }
}
