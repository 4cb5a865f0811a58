//! Tokens put together to blocks, pipelines and commands.
//!
//! Invariant: every function and variable that a parsed template names exists, and nothing is
//! nested deeper than [`DEPTH_MAX`].

use super::functions::Function;
use super::lex::{Piece, Spot, Token, lex};
use super::{DEPTH_MAX, Fault};

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If { pipe: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { at: usize, pipe: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) binding: Binding,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    None,
    Declare,
    Assign,
}

#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) head: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    /// The fields of fields, each with its place.
    pub(super) fields: Vec<(usize, String)>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Variable(String),
    Function(Function),
    Pipeline(Box<Pipeline>),
}

pub(super) fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let pieces = lex(source)?;
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        variables: vec![String::new()],
        depth: 0,
        ranges: 0,
        source_size: source.len(),
    };
    let (nodes, end) = parser.block()?;
    match end {
        Ending::Source => Ok(nodes),
        Ending::Else { at, .. } => Err(Fault::new(at, "`else` belongs to no block")),
        Ending::End { at } => Err(Fault::new(at, "`end` belongs to no block")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Names in scope; the empty one is `$`.
    variables: Vec<String>,
    depth: usize,
    ranges: usize,
    source_size: usize,
}

/// What ended a block.
enum Ending {
    Source,
    End {
        at: usize,
    },
    /// `else`, with what follows it.
    Else {
        at: usize,
        rest: Vec<Spot>,
    },
}

const KEYWORDS: [&str; 8] = ["if", "else", "end", "range", "with", "break", "continue", "define"];

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Ending), Fault> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (at, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { at, tokens } => (at, tokens),
            };
            let keyword = match tokens.first().map(|spot| &spot.token) {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => {
                    no_more(tokens.get(1))?;
                    return Ok((nodes, Ending::End { at }));
                }
                "else" => {
                    let rest = tokens.into_iter().skip(1).collect();
                    return Ok((nodes, Ending::Else { at, rest }));
                }
                "if" | "with" | "range" => nodes.push(self.control(&keyword, at, tokens)?),
                "break" | "continue" => {
                    no_more(tokens.get(1))?;
                    if self.ranges == 0 {
                        return Err(Fault::new(at, format!("`{keyword}` stands in no `range`")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "template" | "block" => {
                    return Err(Fault::new(at, format!("`{keyword}` is not supported")));
                }
                _ => nodes.push(Node::Action(self.whole_pipeline(at, tokens)?)),
            }
        }
        Ok((nodes, Ending::Source))
    }

    /// Parses a block from its first action to its `end`. `tokens` begin with the keyword.
    fn control(&mut self, keyword: &str, at: usize, tokens: Vec<Spot>) -> Result<Node, Fault> {
        self.deeper(at)?;
        let scope = self.variables.len();
        let mut tokens = Tokens::new(at, tokens);
        tokens.next();
        let pipe = self.pipeline(&mut tokens, keyword == "range")?;
        no_more(tokens.peek())?;
        let is_range = keyword == "range";
        self.ranges += usize::from(is_range);
        let (then, end) = self.block()?;
        self.ranges -= usize::from(is_range);
        let otherwise = self.otherwise(keyword, at, end)?;
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { at, pipe, body: then, otherwise },
        })
    }

    /// Parses what follows a block's first part: nothing, `else`, or `else if` and `else with`.
    fn otherwise(&mut self, keyword: &str, open: usize, end: Ending) -> Result<Vec<Node>, Fault> {
        let (at, rest) = match end {
            Ending::End { .. } => return Ok(Vec::new()),
            Ending::Source => return Err(unended(keyword, open)),
            Ending::Else { at, rest } => (at, rest),
        };
        match rest.first().map(|spot| &spot.token) {
            Some(Token::Word(word)) if word == keyword && keyword != "range" => {
                Ok(vec![self.control(keyword, at, rest)?])
            }
            Some(_) => {
                Err(Fault::new(at, format!("`}}}}` should follow the `else` of `{keyword}`")))
            }
            None => {
                let (nodes, end) = self.block()?;
                match end {
                    Ending::End { .. } => Ok(nodes),
                    Ending::Else { at, .. } => Err(Fault::new(at, "there is an `else` already")),
                    Ending::Source => Err(unended(keyword, open)),
                }
            }
        }
    }

    fn whole_pipeline(&mut self, at: usize, tokens: Vec<Spot>) -> Result<Pipeline, Fault> {
        let mut tokens = Tokens::new(at, tokens);
        let pipe = self.pipeline(&mut tokens, false)?;
        no_more(tokens.peek())?;
        Ok(pipe)
    }

    fn pipeline(&mut self, tokens: &mut Tokens, is_range: bool) -> Result<Pipeline, Fault> {
        let at = tokens.at();
        let (variables, binding) = self.bound_variables(tokens, is_range)?;
        let mut commands = vec![self.command(tokens)?];
        while tokens.next_if(&Token::Pipe) {
            let place = tokens.at();
            let command = self.command(tokens)?;
            let takes_value = matches!(
                command.head.base,
                Base::Dot | Base::Variable(_) | Base::Function(_) | Base::Pipeline(_)
            );
            if !takes_value {
                return Err(Fault::new(place, "a literal cannot take a piped value"));
            }
            commands.push(command);
        }
        if binding == Binding::Declare {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { at, variables, binding, commands })
    }

    /// Parses `$x :=`, `$x =`, and for loops `$k, $v :=`.
    fn bound_variables(
        &mut self,
        tokens: &mut Tokens,
        is_range: bool,
    ) -> Result<(Vec<String>, Binding), Fault> {
        let (names, length, token) = match (tokens.token(0), tokens.token(1)) {
            (Some(Token::Variable(name)), Some(token @ (Token::Declare | Token::Assign))) => {
                (vec![name.clone()], 2, token.clone())
            }
            (Some(Token::Variable(key)), Some(Token::Comma)) if is_range => {
                match (tokens.token(2), tokens.token(3)) {
                    (
                        Some(Token::Variable(value)),
                        Some(token @ (Token::Declare | Token::Assign)),
                    ) => (vec![key.clone(), value.clone()], 4, token.clone()),
                    _ => {
                        return Err(Fault::new(
                            tokens.at(),
                            "`$key, $value := …` should stand here",
                        ));
                    }
                }
            }
            _ => return Ok((Vec::new(), Binding::None)),
        };
        let at = tokens.at();
        for name in &names {
            if name.is_empty() {
                return Err(Fault::new(at, "`$` cannot be given another value"));
            }
            if token == Token::Assign {
                self.check_variable(at, name)?;
            }
        }
        for _ in 0..length {
            tokens.next();
        }
        let binding = if token == Token::Declare { Binding::Declare } else { Binding::Assign };
        Ok((names, binding))
    }

    fn command(&mut self, tokens: &mut Tokens) -> Result<Command, Fault> {
        let head = self.operand(tokens)?.ok_or_else(|| tokens.lacks_value())?;
        let mut arguments = Vec::new();
        loop {
            tokens.check_space()?;
            let Some(argument) = self.operand(tokens)? else { break };
            arguments.push(argument);
        }
        if matches!(head.base, Base::Nil) {
            return Err(Fault::new(head.at, "`nil` is no command"));
        }
        let takes_arguments = matches!(head.base, Base::Function(_)) || !head.fields.is_empty();
        if !takes_arguments && let Some(argument) = arguments.first() {
            return Err(Fault::new(argument.at, "only a function takes arguments"));
        }
        if let Base::Function(function) = head.base
            && !head.fields.is_empty()
        {
            let why = format!("`{}` needs parentheses to have fields", function.name());
            return Err(Fault::new(head.at, why));
        }
        Ok(Command { head, arguments })
    }

    fn operand(&mut self, tokens: &mut Tokens) -> Result<Option<Operand>, Fault> {
        let Some(spot) = tokens.peek() else { return Ok(None) };
        let at = spot.at;
        let mut fields = Vec::new();
        let base = match spot.token.clone() {
            Token::Pipe | Token::Close => return Ok(None),
            Token::Comma | Token::Declare | Token::Assign => {
                return Err(Fault::new(at, "a value should stand here"));
            }
            Token::Dot => Base::Dot,
            Token::Field(name) => {
                fields.push((at, name));
                Base::Dot
            }
            Token::Str(text) => Base::Str(text),
            Token::Int(number) => Base::Int(number),
            Token::Float(number) => Base::Float(number),
            Token::Variable(name) => {
                self.check_variable(at, &name)?;
                Base::Variable(name)
            }
            Token::Word(word) => word_operand(at, &word)?,
            Token::Open => {
                tokens.next();
                self.deeper(at)?;
                let pipe = self.pipeline(tokens, false)?;
                self.depth -= 1;
                if !matches!(tokens.token(0), Some(Token::Close)) {
                    return Err(Fault::new(at, "the parenthesis is not closed"));
                }
                Base::Pipeline(Box::new(pipe))
            }
        };
        tokens.next();
        while let Some(Spot { at, is_spaced: false, token: Token::Field(name) }) = tokens.peek() {
            if matches!(
                base,
                Base::Str(_) | Base::Int(_) | Base::Float(_) | Base::Bool(_) | Base::Nil
            ) {
                return Err(Fault::new(*at, "a literal has no fields"));
            }
            fields.push((*at, name.clone()));
            tokens.next();
        }
        Ok(Some(Operand { at, base, fields }))
    }

    fn check_variable(&self, at: usize, name: &str) -> Result<(), Fault> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        let known = self.variables.iter().map(String::as_str).filter(|known| !known.is_empty());
        let meant = conex_report::did_you_mean(name, known).map(|name| format!("${name}"));
        Err(Fault::new(at, format!("there is no variable `${name}`")).meant(meant.as_deref()))
    }

    fn deeper(&mut self, at: usize) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX || at > self.source_size {
            return Err(Fault::limit(at, format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }
}

fn word_operand(at: usize, word: &str) -> Result<Base, Fault> {
    match word {
        "true" => return Ok(Base::Bool(true)),
        "false" => return Ok(Base::Bool(false)),
        "nil" => return Ok(Base::Nil),
        _ => {}
    }
    if KEYWORDS.contains(&word) {
        return Err(Fault::new(at, format!("`{word}` cannot be a value")));
    }
    Function::named(word).map(Base::Function).ok_or_else(|| {
        let known = Function::names().chain(KEYWORDS);
        Fault::new(at, format!("there is no function `{word}`"))
            .meant(conex_report::did_you_mean(word, known))
    })
}

fn unended(keyword: &str, at: usize) -> Fault {
    Fault::new(at, format!("the `{keyword}` is not ended by `{{{{end}}}}`"))
}

fn no_more(spot: Option<&Spot>) -> Result<(), Fault> {
    match spot {
        None => Ok(()),
        Some(Spot { at, token: Token::Close, .. }) => {
            Err(Fault::new(*at, "the parenthesis closes nothing"))
        }
        Some(spot) => Err(Fault::new(spot.at, "this is not expected here")),
    }
}

struct Tokens {
    tokens: Vec<Spot>,
    next: usize,
    open: usize,
}

impl Tokens {
    fn new(open: usize, tokens: Vec<Spot>) -> Self {
        Self { tokens, next: 0, open }
    }

    fn peek(&self) -> Option<&Spot> {
        self.tokens.get(self.next)
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.next + ahead).map(|spot| &spot.token)
    }

    fn next(&mut self) {
        self.next += 1;
    }

    fn next_if(&mut self, token: &Token) -> bool {
        let found = self.token(0) == Some(token);
        self.next += usize::from(found);
        found
    }

    /// Where the next token stands, or where the action began.
    fn at(&self) -> usize {
        self.peek().or(self.tokens.last()).map_or(self.open, |spot| spot.at)
    }

    /// Refuses `.A"x"` and `.A.`: a space separates arguments, but for
    /// the parenthesis of `len(.Tags)`.
    fn check_space(&self) -> Result<(), Fault> {
        let before = self.next.checked_sub(1).and_then(|before| self.tokens.get(before));
        let before = before.map(|spot| &spot.token);
        match self.peek() {
            Some(Spot { token: Token::Close | Token::Pipe, .. }) => Ok(()),
            Some(Spot { token: Token::Open, .. }) if matches!(before, Some(Token::Word(_))) => {
                Ok(())
            }
            Some(Spot { at, is_spaced: false, .. }) => {
                Err(Fault::new(*at, "a space is missing before this"))
            }
            _ => Ok(()),
        }
    }

    fn lacks_value(&self) -> Fault {
        Fault::new(self.at(), "a value is missing")
    }
}
