//! Everything that a rule may ask about: the file, its text, and for each instruction the shell
//! that reads it and its commands.

use std::ops::Range;

use conex_dockerfile::{Dockerfile, Instruction, Kind, Stage};
use conex_report::Span;

use crate::LintOptions;
use crate::evaluate::Evaluation;
use crate::finding::{Edit, Noted, Sink};
use crate::script::{Arg, Cmd, Reader, Shell, ShellText};
use crate::text::Lines;

/// A file with everything that rules ask for.
pub(crate) struct Context<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) text: &'a str,
    pub(crate) lines: Lines<'a>,
    pub(crate) options: &'a LintOptions<'a>,
    pub(crate) stages: Vec<StageView<'a>>,
    /// Every instruction of the file in order, those before the first FROM too.
    pub(crate) instructions: Vec<&'a Instruction>,
}

/// What stages hand to those that start from them. The last one that starts from a stage takes
/// what the others copy, so that a chain of stages, however long, copies nothing.
pub(crate) struct Inheritance<T> {
    by_stage: Vec<Option<T>>,
    /// How many stages still start from each.
    heirs: Vec<usize>,
}

impl<T: Clone> Inheritance<T> {
    /// Nothing yet, of stages with these parents.
    pub(crate) fn new(parents: impl Iterator<Item = Option<usize>> + Clone) -> Self {
        let mut heirs = vec![0; parents.clone().count()];
        for parent in parents.flatten() {
            if let Some(count) = heirs.get_mut(parent) {
                *count += 1;
            }
        }
        Self { by_stage: Vec::new(), heirs }
    }

    /// What the next stage starts with.
    pub(crate) fn of(&mut self, parent: Option<usize>) -> Option<T> {
        let parent = parent?;
        let heirs = self.heirs.get_mut(parent)?;
        *heirs = heirs.saturating_sub(1);
        let slot = self.by_stage.get_mut(parent)?;
        if *heirs == 0 { slot.take() } else { slot.clone() }
    }

    /// Keeps what a stage came to, if another one starts from it.
    pub(crate) fn keep(&mut self, value: T) {
        let is_wanted = self.heirs.get(self.by_stage.len()).is_some_and(|heirs| *heirs > 0);
        self.by_stage.push(is_wanted.then_some(value));
    }
}

/// A stage.
pub(crate) struct StageView<'a> {
    pub(crate) stage: &'a Stage,
    /// The base with variables expanded, as far as that is known.
    pub(crate) base: String,
    /// The stage that it starts from.
    pub(crate) parent: Option<usize>,
    /// Its instructions; triggers of `ONBUILD` follow the instruction that holds them.
    pub(crate) steps: Vec<View<'a>>,
    pub(crate) is_last: bool,
}

/// An instruction.
pub(crate) struct View<'a> {
    pub(crate) instruction: &'a Instruction,
    /// The line that findings are counted for: where the instruction of the file begins.
    pub(crate) line: u32,
    pub(crate) is_trigger: bool,
    pub(crate) script: Option<ShellText>,
    /// Scripts in the script, which other shells read.
    inner: Vec<ShellText>,
    /// Its position among the instructions of the stage.
    pub(crate) index: usize,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        file: &'a Dockerfile,
        text: &'a str,
        options: &'a LintOptions<'a>,
        evaluation: &Evaluation<'_>,
    ) -> Self {
        let given = options.shell.as_deref().map(Reader::of_program);
        let lines = Lines::new(text);
        let mut states: Vec<Reader> = Vec::new();
        let mut stages = Vec::new();
        for (stage, facts) in file.stages.iter().zip(&evaluation.froms) {
            let base = facts.base.clone().unwrap_or_else(|| stage.base.raw.clone());
            let parent = facts.parent;
            let inherited = parent.and_then(|parent| states.get(parent)).copied();
            let mut state = inherited.or(given).unwrap_or_else(|| shell_of_base(&base));
            state = pragma(&stage.from).map_or(state, |shell| Reader { shell, ..state });
            let steps = steps(stage, text, &lines, &mut state);
            states.push(state);
            let is_last = stage.index + 1 == file.stages.len();
            stages.push(StageView { stage, base, parent, steps, is_last });
        }
        let staged = file
            .stages
            .iter()
            .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        let instructions = file.global_args.iter().chain(staged).collect();
        Self { file, text, lines, options, stages, instructions }
    }

    /// Every instruction behind a FROM, triggers too.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &View<'a>> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// Every script of every RUN.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&View<'a>, &ShellText)> {
        self.stages.iter().flat_map(StageView::runs)
    }

    /// Every command of every RUN.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&View<'a>, &ShellText, &Cmd)> {
        self.runs().flat_map(|(view, script)| {
            script.commands.iter().map(move |command| (view, script, command))
        })
    }

    /// The stages that nothing of the file starts from or that are built last.
    pub(crate) fn is_final(&self, stage: &StageView<'_>) -> bool {
        stage.is_last
    }

    /// Whether the last stage starts from this one, in one step or several, or is it.
    pub(crate) fn reaches_image(&self, stage: &StageView<'_>) -> bool {
        let mut at = self.stages.len().checked_sub(1);
        while let Some(index) = at {
            if index == stage.stage.index {
                return true;
            }
            at = self.stages.get(index).and_then(|view| view.parent);
        }
        false
    }

    /// What stands at an instruction.
    pub(crate) fn view_of(&self, instruction: &Instruction) -> Option<&View<'a>> {
        let line = instruction.span.start.line;
        let behind = self.stages.partition_point(|one| one.stage.span.start.line <= line);
        let steps = &self.stages.get(behind.checked_sub(1)?)?.steps;
        let first = steps.partition_point(|view| view.line < line);
        let mut here = steps.iter().skip(first).take_while(|view| view.line == line);
        here.find(|view| std::ptr::eq(view.instruction, instruction))
    }

    /// The text of a range.
    pub(crate) fn written(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or("")
    }

    /// Adds a finding at an instruction's first line.
    pub(crate) fn at<'s>(
        &self,
        sink: &'s mut Sink<'_>,
        view: &View<'_>,
        message: impl Into<String>,
    ) -> Noted<'s> {
        sink.add(view.line, view.instruction.head, message)
    }

    /// Adds a finding at a piece of a script.
    pub(crate) fn within<'s>(
        &self,
        sink: &'s mut Sink<'_>,
        view: &View<'_>,
        script: &ShellText,
        span: conex_shell::Span,
        message: impl Into<String>,
    ) -> Noted<'s> {
        let noted = sink.add(view.line, self.lines.span(&script.source(span)), message);
        if script.is_exec { noted.without_fix() } else { noted }
    }

    /// An edit that inserts behind an argument.
    pub(crate) fn behind(&self, script: &ShellText, arg: &Arg, text: impl Into<String>) -> Edit {
        Edit::insert(script.source(arg.span).end, text)
    }

    /// An edit that removes an instruction with its lines and the comments that belong to it.
    pub(crate) fn removal(&self, instruction: &Instruction) -> Edit {
        Edit::replace(self.lines.whole_lines(&instruction.source), "")
    }

    /// The span of a word that was read from the file.
    pub(crate) fn range(&self, span: Span) -> Range<usize> {
        self.lines.range(span)
    }
}

impl<'a> StageView<'a> {
    /// Every script of every RUN.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&View<'a>, &ShellText)> {
        self.steps.iter().flat_map(|view| view.runs().map(move |script| (view, script)))
    }
}

impl View<'_> {
    pub(crate) fn kind(&self) -> &Kind {
        &self.instruction.kind
    }

    /// The script of a RUN.
    pub(crate) fn run(&self) -> Option<&ShellText> {
        self.script.as_ref().filter(|_| matches!(self.instruction.kind, Kind::Run(_)))
    }

    /// The script of a RUN, and those that it hands to other shells.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &ShellText> {
        self.run().into_iter().chain(&self.inner)
    }

    /// The scripts of an instruction, whichever it is.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &ShellText> {
        self.script.iter().chain(&self.inner)
    }
}

fn steps<'a>(stage: &'a Stage, text: &str, lines: &Lines<'_>, state: &mut Reader) -> Vec<View<'a>> {
    let mut steps = Vec::new();
    for (index, instruction) in stage.instructions.iter().enumerate() {
        let line = instruction.span.start.line;
        if let Some(shell) = pragma(instruction) {
            state.shell = shell;
        }
        let mut push = |instruction: &'a Instruction, is_trigger: bool| {
            let script = ShellText::of(instruction, text, *state)
                .or_else(|| ShellText::of_exec(instruction, lines));
            let is_run = matches!(instruction.kind, Kind::Run(_));
            let inner = script.as_ref().filter(|_| is_run).map(ShellText::inner);
            let inner = inner.unwrap_or_default();
            steps.push(View { instruction, line, is_trigger, script, inner, index });
        };
        push(instruction, false);
        match &instruction.kind {
            Kind::Onbuild(onbuild) => push(&onbuild.trigger, true),
            Kind::Shell(words) => {
                let told = Reader::of_words(words.iter().map(|word| word.raw.as_str()));
                *state = told.unwrap_or(*state);
            }
            _ => {}
        }
    }
    steps
}

/// The shell of an image that says nothing of it: images of Windows have no `sh`.
fn shell_of_base(base: &str) -> Reader {
    const WINDOWS: [&str; 4] = ["windows/", "windowsservercore", "nanoserver", "servercore"];
    let base = base.to_ascii_lowercase();
    let is_windows = WINDOWS.iter().any(|part| base.contains(part));
    Reader::of_program(if is_windows { "cmd" } else { "sh" })
}

/// `# hadolint shell=NAME` above an instruction.
fn pragma(instruction: &Instruction) -> Option<Shell> {
    instruction.comments.iter().find_map(|comment| {
        let rest = comment.text.strip_prefix("hadolint")?.trim_start();
        let value = rest.strip_prefix("shell")?.trim_start().strip_prefix('=')?;
        Some(Shell::of_program(value.trim()))
    })
}
