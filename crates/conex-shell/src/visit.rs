//! Walks over a script, from the outside in and from left to right.

use crate::ast::{
    AndOr, Command, CommandKind, List, Part, PartKind, Pipeline, Script, TestToken, Word,
};

/// Who is told of what stands in a script. Each method goes on inwards unless it is replaced; what
/// replaces one calls the `walk_` function of its kind to do so.
pub trait Visit<'s> {
    /// A list.
    fn list(&mut self, list: &'s List) {
        walk_list(self, list);
    }
    /// An and-or list.
    fn and_or(&mut self, and_or: &'s AndOr) {
        for pipeline in and_or.pipelines() {
            self.pipeline(pipeline);
        }
    }
    /// A pipeline.
    fn pipeline(&mut self, pipeline: &'s Pipeline) {
        walk_pipeline(self, pipeline);
    }
    /// A command.
    fn command(&mut self, command: &'s Command) {
        walk_command(self, command);
    }
    /// A word.
    fn word(&mut self, word: &'s Word) {
        walk_word(self, word);
    }
    /// A part of a word, or of a heredoc.
    fn part(&mut self, part: &'s Part) {
        walk_part(self, part);
    }
}

impl Script {
    /// Walks over everything, heredocs last.
    pub fn visit<'s>(&'s self, visitor: &mut impl Visit<'s>) {
        visitor.list(&self.body);
        for part in self.heredocs.iter().flat_map(|heredoc| &heredoc.parts) {
            visitor.part(part);
        }
    }
}

/// Goes on into a list.
pub fn walk_list<'s>(visitor: &mut (impl Visit<'s> + ?Sized), list: &'s List) {
    for item in &list.items {
        visitor.and_or(&item.and_or);
    }
}

/// Goes on into a pipeline.
pub fn walk_pipeline<'s>(visitor: &mut (impl Visit<'s> + ?Sized), pipeline: &'s Pipeline) {
    for command in &pipeline.commands {
        visitor.command(command);
    }
}

/// Goes on into a command.
pub fn walk_command<'s>(visitor: &mut (impl Visit<'s> + ?Sized), command: &'s Command) {
    match &command.kind {
        CommandKind::Simple(simple) => {
            for assignment in &simple.assignments {
                visitor.word(&assignment.value);
                for element in assignment.array.iter().flatten() {
                    visitor.word(element);
                }
            }
            for word in &simple.words {
                visitor.word(word);
            }
        }
        CommandKind::Brace(list) | CommandKind::Subshell(list) => visitor.list(list),
        CommandKind::If { branches, otherwise } => {
            for (condition, body) in branches {
                visitor.list(condition);
                visitor.list(body);
            }
            if let Some(otherwise) = otherwise {
                visitor.list(otherwise);
            }
        }
        CommandKind::Loop { condition, body, .. } => {
            visitor.list(condition);
            visitor.list(body);
        }
        CommandKind::For { words, body, .. } => {
            for word in words.iter().flatten() {
                visitor.word(word);
            }
            visitor.list(body);
        }
        CommandKind::ArithmeticFor { expression, body } => {
            visitor.word(expression);
            visitor.list(body);
        }
        CommandKind::Case(case) => {
            visitor.word(&case.subject);
            for item in &case.items {
                for pattern in &item.patterns {
                    visitor.word(pattern);
                }
                visitor.list(&item.body);
            }
        }
        CommandKind::Function { body, .. } => visitor.command(body),
        CommandKind::Test(condition) => {
            for token in &condition.tokens {
                if let TestToken::Word(word) = token {
                    visitor.word(word);
                }
            }
        }
        CommandKind::Arithmetic(word) => visitor.word(word),
    }
    for redirect in &command.redirects {
        visitor.word(&redirect.target);
    }
}

/// Goes on into a word.
pub fn walk_word<'s>(visitor: &mut (impl Visit<'s> + ?Sized), word: &'s Word) {
    for part in &word.parts {
        visitor.part(part);
    }
}

/// Goes on into a part.
pub fn walk_part<'s>(visitor: &mut (impl Visit<'s> + ?Sized), part: &'s Part) {
    match &part.kind {
        PartKind::DoubleQuoted(parts) | PartKind::Arithmetic(parts) => {
            for part in parts {
                visitor.part(part);
            }
        }
        PartKind::Parameter(parameter) => {
            for part in &parameter.argument {
                visitor.part(part);
            }
        }
        PartKind::Command { body, .. } | PartKind::Process(body) => visitor.list(body),
        PartKind::Literal
        | PartKind::Escaped
        | PartKind::SingleQuoted
        | PartKind::DollarQuoted
        | PartKind::ExtendedGlob => {}
    }
}
