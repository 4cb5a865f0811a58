//! Compound commands: groups, `if`, loops, `case`, functions, `[[ … ]]`, `(( … ))`.

use crate::ast::{Case, CaseItem, Command, CommandKind, Condition, List, Span, TestToken, Word};
use crate::parser::{Parser, name_length};

impl Parser<'_> {
    /// The compound command that begins here, without its redirections.
    pub(crate) fn compound(&mut self) -> Option<CommandKind> {
        if self.starts_with("((") {
            let start = self.at;
            if let Some(expression) = self.arithmetic_command() {
                return Some(CommandKind::Arithmetic(expression));
            }
            if self.has_failed() {
                return None;
            }
            self.at = start;
        }
        if self.byte() == Some(b'(') {
            let open = self.at;
            self.at += 1;
            let body = self.list();
            self.skip_lines();
            self.close(")", open);
            return Some(CommandKind::Subshell(body));
        }
        let word = self.peek_plain_word();
        match word {
            "{" | "if" | "while" | "until" | "for" | "select" | "case" | "function" | "[[" => {}
            _ => return None,
        }
        let open = self.at;
        self.at += word.len();
        Some(match word {
            "{" => {
                let body = self.list();
                self.skip_lines();
                if self.peek_plain_word() == "}" {
                    self.at += 1;
                } else {
                    self.unclosed(open, "{", "}");
                }
                CommandKind::Brace(body)
            }
            "if" => self.if_command(),
            "while" | "until" => {
                let condition = self.list();
                let body = self.do_group(word);
                CommandKind::Loop { until: word == "until", condition, body }
            }
            "for" | "select" => self.for_command(word),
            "case" => CommandKind::Case(self.case_command()),
            "function" => return self.function_keyword(),
            _ => CommandKind::Test(self.condition(open)),
        })
    }

    fn close(&mut self, closing: &str, open: usize) {
        if self.take(closing).is_none() {
            let opening = self.text.get(open..open + 1).unwrap_or("").to_owned();
            self.unclosed(open, &opening, closing);
        }
    }

    fn unclosed(&mut self, open: usize, opening: &str, closing: &str) {
        if !self.has_failed() {
            let span = Span::new(open, open + opening.len());
            self.fail(span, format!("`{opening}` without `{closing}`"));
        }
    }

    fn if_command(&mut self) -> CommandKind {
        let mut branches = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.list();
            self.expect_word("then", "if");
            let body = self.list();
            branches.push((condition, body));
            self.skip_lines();
            match self.peek_plain_word() {
                "elif" => self.at += 4,
                "else" => {
                    self.at += 4;
                    otherwise = Some(self.list());
                    break;
                }
                _ => break,
            }
            if self.has_failed() {
                break;
            }
        }
        self.expect_word("fi", "if");
        CommandKind::If { branches, otherwise }
    }

    fn do_group(&mut self, of: &str) -> List {
        self.expect_word("do", of);
        let body = self.list();
        self.expect_word("done", "do");
        body
    }

    fn for_command(&mut self, keyword: &str) -> CommandKind {
        self.skip_blanks();
        if self.starts_with("((") {
            let expression = self.arithmetic_command().unwrap_or_default();
            self.skip_blanks();
            self.take(";");
            self.skip_lines();
            let body = self.loop_body(keyword);
            return CommandKind::ArithmeticFor { expression, body };
        }
        let length = name_length(self.rest());
        let name = Span::new(self.at, self.at + length);
        if length == 0 {
            self.fail(name, format!("`{keyword}` without a variable"));
        }
        self.at = name.end.min(self.end);
        self.skip_lines();
        let mut words = None;
        if self.peek_plain_word() == "in" {
            self.at += 2;
            let mut found = Vec::new();
            loop {
                self.skip_blanks();
                let word = self.word();
                if word.parts.is_empty() {
                    break;
                }
                found.push(word);
            }
            words = Some(found);
        }
        self.skip_blanks();
        if !self.starts_with(";;") {
            self.take(";");
        }
        self.skip_lines();
        let body = self.loop_body(keyword);
        CommandKind::For { name, words, body }
    }

    /// `do … done`, or `{ … }`, which old shells take too.
    fn loop_body(&mut self, keyword: &str) -> List {
        if self.peek_plain_word() == "{" {
            let open = self.at;
            self.at += 1;
            let body = self.list();
            self.skip_lines();
            self.close("}", open);
            return body;
        }
        self.do_group(keyword)
    }

    fn case_command(&mut self) -> Case {
        self.skip_blanks();
        let subject = self.word();
        let mut items = Vec::new();
        self.expect_word("in", "case");
        loop {
            self.skip_lines();
            if self.has_failed() || self.is_at_end() || self.peek_plain_word() == "esac" {
                break;
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                self.skip_blanks();
                let pattern = self.word();
                if pattern.parts.is_empty() {
                    break;
                }
                patterns.push(pattern);
                self.skip_blanks();
                if self.take("|").is_none() {
                    break;
                }
            }
            self.skip_blanks();
            if patterns.is_empty() || self.take(")").is_none() {
                let here = Span::new(self.at, self.at);
                if !self.has_failed() {
                    self.fail(here, "branch of `case` without `)`");
                }
                break;
            }
            let body = self.list();
            items.push(CaseItem { patterns, body });
            self.skip_lines();
            if [";;&", ";;", ";&"].iter().all(|end| self.take(end).is_none()) {
                break;
            }
        }
        self.expect_word("esac", "case");
        Case { subject, items }
    }

    fn function_keyword(&mut self) -> Option<CommandKind> {
        let start = self.at;
        self.skip_blanks();
        let name = self.word();
        self.skip_blanks();
        if self.take("(").is_some() {
            self.skip_blanks();
            self.close(")", start);
        }
        self.function(name.span, start, true).map(|command| command.kind)
    }

    /// The body of a function.
    pub(crate) fn function(&mut self, name: Span, start: usize, keyword: bool) -> Option<Command> {
        self.skip_lines();
        let body: Option<Command> = self.nested(Self::command);
        let Some(body) = body else {
            let shown = name.of(self.text).to_owned();
            if !self.has_failed() {
                self.fail(name, format!("function `{shown}` has no body"));
            }
            return None;
        };
        let span = Span::new(start, body.span.end);
        let kind = CommandKind::Function { name, body: Box::new(body), keyword };
        Some(Command { kind, redirects: Vec::new(), span })
    }

    /// `(( … ))`; `None` if it is a subshell in a subshell after all.
    fn arithmetic_command(&mut self) -> Option<Word> {
        let start = self.at;
        self.at += 2;
        let before = self.mark();
        let parts = self.nested(Self::arithmetic_parts);
        if self.take("))").is_some() {
            return Some(Word { parts, span: Span::new(start, self.at) });
        }
        self.go_back(before);
        None
    }

    /// What stands between `[[` and `]]`.
    fn condition(&mut self, open: usize) -> Condition {
        let mut tokens = Vec::new();
        let mut is_regex = false;
        loop {
            self.skip_lines();
            if self.peek_plain_word() == "]]" {
                self.at += 2;
                return Condition { tokens };
            }
            let operator = if is_regex {
                None
            } else {
                ["&&", "||", "(", ")", "<", ">"].iter().find_map(|operator| self.take(operator))
            };
            if let Some(operator) = operator {
                tokens.push(TestToken::Operator(operator));
                continue;
            }
            let word = if is_regex { self.regex_word() } else { self.word() };
            if word.parts.is_empty() || self.has_failed() {
                self.unclosed(open, "[[", "]]");
                return Condition { tokens };
            }
            is_regex = word.span.of(self.text) == "=~";
            tokens.push(TestToken::Word(word));
        }
    }
}
