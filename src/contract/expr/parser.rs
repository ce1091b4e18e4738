//! Tokens → expression, with PostgreSQL's precedence: `or`, `and`, `not`, `is`, comparison, `||`.

use std::ops::Range;

use super::lexer::{Token, TokenKind, tokens};
use super::{Expr, ExprError, Kind, Node, Operator};

/// Deepest nesting: far more than a person reads, far less than a stack.
const DEPTH_MAX: usize = 50;

/// Words that cannot be columns without quotes.
const KEYWORDS: [&str; 14] =
    ["and", "or", "not", "is", "null", "true", "false", "case", "when", "then", "else", "end", "coalesce", "in"];

pub(super) fn parse(text: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, columns: Vec::new() };
    let root = parser.or()?;
    if parser.peek() != &TokenKind::End {
        return Err(parser.unexpected("the expression ends here, or an operator follows"));
    }
    Ok(Expr { text: text.to_owned(), root, columns: parser.columns })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    columns: Vec<String>,
}

type Parsed = Result<Node, ExprError>;

impl Parser {
    fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(&TokenKind::End, |token| &token.kind)
    }

    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0..0, |token| token.span.clone())
    }

    /// Where the token before ended.
    fn end(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |token| token.span.end)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(found) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == kind;
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), ExprError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}` is wanted here"))) }
    }

    fn unexpected(&self, wanted: &str) -> ExprError {
        let span = self.span();
        let span = span.start..span.end.max(span.start + 1);
        ExprError { message: wanted.to_owned(), hint: None, span }
    }

    fn node(&self, start: usize, kind: Kind) -> Node {
        Node { span: start..self.end(), kind }
    }

    fn or(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.unexpected(&format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let start = self.span().start;
        let mut left = self.and()?;
        while self.take_word("or") {
            let right = self.and()?;
            left = self.node(start, Kind::Or(Box::new(left), Box::new(right)));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let start = self.span().start;
        let mut left = self.not()?;
        while self.take_word("and") {
            let right = self.not()?;
            left = self.node(start, Kind::And(Box::new(left), Box::new(right)));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed {
        let start = self.span().start;
        let mut negations = 0;
        while self.take_word("not") {
            negations += 1;
        }
        let mut inner = self.is_null()?;
        if negations > 0 {
            // Two negations cancel out, null included.
            inner = self.node(start, Kind::Not(Box::new(inner)));
            if negations % 2 == 0 {
                inner = self.node(start, Kind::Not(Box::new(inner)));
            }
        }
        Ok(inner)
    }

    fn is_null(&mut self) -> Parsed {
        let start = self.span().start;
        let mut of = self.comparison()?;
        while self.take_word("is") {
            let negated = self.take_word("not");
            self.expect_word("null")?;
            of = self.node(start, Kind::IsNull { of: Box::new(of), negated });
        }
        Ok(of)
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.span().start;
        let left = self.concat()?;
        let TokenKind::Compare(operator) = *self.peek() else { return Ok(left) };
        self.at += 1;
        let right = self.concat()?;
        if matches!(self.peek(), TokenKind::Compare(_)) {
            return Err(self.unexpected("comparisons do not follow one another: use `and`"));
        }
        Ok(self.node(start, Kind::Compare(operator, Box::new(left), Box::new(right))))
    }

    fn concat(&mut self) -> Parsed {
        let start = self.span().start;
        let mut left = self.primary()?;
        while self.take(&TokenKind::Concat) {
            let right = self.primary()?;
            left = self.node(start, Kind::Concat(Box::new(left), Box::new(right)));
        }
        Ok(left)
    }

    fn primary(&mut self) -> Parsed {
        let start = self.span().start;
        let token = self.peek().clone();
        let kind = match token {
            TokenKind::Open => {
                self.at += 1;
                let inner = self.or()?;
                if !self.take(&TokenKind::Close) {
                    return Err(self.unexpected("`)` is missing"));
                }
                return Ok(Node { span: start..self.end(), kind: inner.kind });
            }
            TokenKind::Minus => {
                self.at += 1;
                match self.peek().clone() {
                    TokenKind::Number(number) => Kind::Number(format!("-{number}")),
                    _ => return Err(self.unexpected("a number must follow `-`")),
                }
            }
            TokenKind::Text(text) => Kind::Text(text),
            TokenKind::Number(number) => Kind::Number(number),
            TokenKind::Quoted(name) => self.column(name),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "null" => Kind::Null,
                "case" => return self.case(),
                "coalesce" => return self.coalesce(),
                _ if KEYWORDS.contains(&word.as_str()) => {
                    return Err(self.unexpected(&format!("a value is wanted before `{word}`")));
                }
                _ => self.column(word),
            },
            _ => return Err(self.unexpected("a value is wanted here")),
        };
        self.at += 1;
        if self.peek() == &TokenKind::Open && matches!(kind, Kind::Column(_)) {
            let mut error = self.unexpected("expressions have no functions but `coalesce`");
            error.span = start..error.span.end;
            return Err(error);
        }
        Ok(self.node(start, kind))
    }

    fn column(&mut self, name: String) -> Kind {
        match self.columns.iter().position(|known| *known == name) {
            Some(index) => Kind::Column(index),
            None => {
                self.columns.push(name);
                Kind::Column(self.columns.len() - 1)
            }
        }
    }

    fn coalesce(&mut self) -> Parsed {
        let start = self.span().start;
        self.at += 1;
        if !self.take(&TokenKind::Open) {
            return Err(self.unexpected("`(` must follow `coalesce`"));
        }
        let mut list = vec![self.or()?];
        while self.take(&TokenKind::Comma) {
            list.push(self.or()?);
        }
        if !self.take(&TokenKind::Close) {
            return Err(self.unexpected("`,` or `)` is wanted here"));
        }
        Ok(self.node(start, Kind::Coalesce(list)))
    }

    fn case(&mut self) -> Parsed {
        let start = self.span().start;
        self.at += 1;
        let of = if self.is_word("when") { None } else { Some(self.or()?) };
        let mut whens = Vec::new();
        while self.take_word("when") {
            let value = self.or()?;
            let when = match &of {
                None => value,
                Some(of) => Node {
                    span: value.span.clone(),
                    kind: Kind::Compare(Operator::Equal, Box::new(of.clone()), Box::new(value)),
                },
            };
            self.expect_word("then")?;
            whens.push((when, self.or()?));
        }
        if whens.is_empty() {
            return Err(self.unexpected("`when` is wanted here"));
        }
        let otherwise = if self.take_word("else") { Some(Box::new(self.or()?)) } else { None };
        self.expect_word("end")?;
        Ok(self.node(start, Kind::Case { whens, otherwise }))
    }
}
