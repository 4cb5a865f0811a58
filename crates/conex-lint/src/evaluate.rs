//! What the instructions mean, as far as a Dockerfile alone says it: the variables before each
//! instruction, the values that the rules look at, and the names that nothing defined.
//!
//! Follows the builder's rules for ARG and ENV. Never fails: a word that does not expand has no
//! value here, and the build says why.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use conex_dockerfile::{
    Dockerfile, Expandable, Expander, Instruction, Kind, Stage, StageRef, Word, parse_onbuild,
};
use conex_oci::Platform;
use conex_report::Span;

use crate::context::Inheritance;
use crate::suggest::nearest;
use crate::{CheckOptions, Scope};

/// What is known of a base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// The variables of its config, `NAME=value`.
    pub env: Vec<String>,
    /// Whether its config names a shell.
    pub has_shell: bool,
    /// Its own platform.
    pub platform: Option<Platform>,
    /// Its triggers.
    pub on_build: Vec<String>,
}

/// A file with everything that the rules ask for.
pub(crate) struct Evaluation<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) options: &'a CheckOptions<'a>,
    /// The stages looked at.
    pub(crate) stages: Vec<StageFacts<'a>>,
    /// What `FROM` says of every stage, looked at or not.
    pub(crate) froms: Vec<FromFacts>,
}

/// What a `FROM` comes to.
#[derive(Default)]
pub(crate) struct FromFacts {
    /// The base with the values given.
    pub(crate) base: Option<String>,
    /// The base with defaults alone.
    pub(crate) default_base: Option<String>,
    /// The platform asked for.
    pub(crate) platform: Option<Value>,
    /// The stage that it starts from.
    pub(crate) parent: Option<usize>,
    /// Names that no global argument has, with the nearest that one has.
    pub(crate) undeclared: Vec<Undefined>,
}

/// An expanded word.
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) used: BTreeSet<String>,
    pub(crate) unset: BTreeSet<String>,
}

/// A name without a value.
pub(crate) struct Undefined {
    pub(crate) name: String,
    pub(crate) near: Option<String>,
}

/// One stage's instructions, triggers of its base first.
pub(crate) struct StageFacts<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) steps: Vec<Step<'a>>,
    /// The platform of the base image, where it is known, and the one wanted.
    pub(crate) base_platform: Option<(Platform, Platform)>,
}

/// One instruction.
pub(crate) struct Step<'a> {
    pub(crate) instruction: Cow<'a>,
    /// Where findings about it belong: a trigger's belong to the `FROM`.
    pub(crate) span: Span,
    pub(crate) undefined: Vec<Undefined>,
    /// The words that expand, expanded, in the order of [`Instruction::expandable`]; EXPOSE gives
    /// as many as there are ports. A word that does not expand has none.
    pub(crate) values: Vec<Option<String>>,
    /// Whether SHELL, or the base image, named a shell before.
    pub(crate) has_shell: bool,
    /// Whether a WORKDIR stood before, in this file.
    pub(crate) has_workdir: bool,
}

/// An instruction of the file, or one out of a base image's config.
pub(crate) enum Cow<'a> {
    File(&'a Instruction),
    Image(Box<Instruction>),
}

impl std::ops::Deref for Cow<'_> {
    type Target = Instruction;

    fn deref(&self) -> &Instruction {
        match self {
            Cow::File(instruction) => instruction,
            Cow::Image(instruction) => instruction,
        }
    }
}

/// Variables in the order in which they were last set, which decides between equal suggestions.
#[derive(Clone, Default)]
struct Variables {
    values: BTreeMap<String, (u64, String)>,
    clock: u64,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        self.clock += 1;
        self.values.insert(name.to_owned(), (self.clock, value));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<(u64, &str)> =
            self.values.iter().map(|(name, (set, _))| (*set, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    fn expand(&self, escape: char, word: &str) -> Option<Value> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        let expanded = Expander::new(escape, &lookup).expand_word(word).ok()?;
        Some(Value { text: expanded.text, used: expanded.used, unset: expanded.unset })
    }
}

/// What a stage hands to stages that start from it.
#[derive(Clone, Default)]
struct State<'a> {
    variables: Variables,
    declared: BTreeSet<String>,
    has_shell: bool,
    has_workdir: bool,
    triggers: Vec<&'a Instruction>,
    image_triggers: Vec<String>,
    /// Whether all variables that could be set are known: the base image is.
    is_complete: bool,
}

/// Most names compared to make suggestions for one file: people declare dozens, and each name that
/// nothing sets is compared with all of them.
const SUGGESTION_COST_MAX: usize = 200_000;

/// Arguments that switch features of the builder, and are never variables of a build.
const SWITCHES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl<'a> Evaluation<'a> {
    pub(crate) fn new(file: &'a Dockerfile, options: &'a CheckOptions<'a>) -> Self {
        let (globals, names) = global_args(file, options, Given::Yes);
        let (defaults, _) = global_args(file, options, Given::No);
        let froms: Vec<FromFacts> = file
            .stages
            .iter()
            .map(|stage| from_facts(file.escape, stage, &globals, &names, &defaults))
            .collect();
        let froms = with_parents(file, froms);
        let needed = needed_stages(file, options, &froms);
        let mut states = Inheritance::new(froms.iter().map(|facts| facts.parent));
        let budget = Cell::new(SUGGESTION_COST_MAX);
        let mut stages = Vec::new();
        for (stage, facts) in file.stages.iter().zip(&froms) {
            let base = facts.base.as_deref().unwrap_or("");
            let inherited: Option<State<'a>> = states.of(facts.parent);
            let mut base_platform = None;
            let state = match inherited {
                Some(state) => state,
                None => {
                    let wanted = wanted_platform(facts, options);
                    let image = (base != "scratch").then(|| (options.base)(base, &wanted));
                    base_platform = image
                        .as_ref()
                        .and_then(|image| image.as_ref()?.platform.clone())
                        .map(|actual| (actual, wanted));
                    state_of_image(image)
                }
            };
            let mut run =
                Run { file, options, globals: &globals, state, steps: Vec::new(), budget: &budget };
            run.stage(stage);
            states.keep(run.state);
            if needed.contains(&stage.index) {
                stages.push(StageFacts { stage, steps: run.steps, base_platform });
            }
        }
        Self { file, options, stages, froms }
    }

    /// Every stage's `FROM` and instructions, with those before the first `FROM`.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &'a Instruction> {
        let stages = self.file.stages.iter();
        let staged =
            stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        self.file.global_args.iter().chain(staged)
    }
}

/// Whether values given from outside count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Yes,
    No,
}

/// The variables that `FROM` sees, and all their names, set or not.
fn global_args(
    file: &Dockerfile,
    options: &CheckOptions<'_>,
    given: Given,
) -> (Variables, BTreeSet<String>) {
    let mut variables = Variables::default();
    let last = file.stages.last().and_then(|stage| stage.name.clone());
    let target = options.target.clone().or(last).unwrap_or_else(|| "default".to_owned());
    let (build, to) = (&options.build_platform, &options.target_platform);
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", build.os_version.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("TARGETPLATFORM", to.to_string()),
        ("TARGETOS", to.os.clone()),
        ("TARGETOSVERSION", to.os_version.clone()),
        ("TARGETARCH", to.architecture.clone()),
        ("TARGETVARIANT", to.variant.clone()),
        ("TARGETSTAGE", target),
    ] {
        variables.set(name, options.build_args.get(name).cloned().unwrap_or(value));
    }
    let mut names: BTreeSet<String> = variables.names().into_iter().map(str::to_owned).collect();
    for instruction in &file.global_args {
        let Kind::Arg(arg) = &instruction.kind else { continue };
        for arg in &arg.args {
            let outside = options.build_args.get(&arg.name.raw).filter(|_| given == Given::Yes);
            let default = || {
                let default = arg.default.as_ref()?;
                variables.expand(file.escape, &default.raw).map(|value| value.text)
            };
            if let Some(value) = outside.cloned().or_else(default) {
                variables.set(&arg.name.raw, value);
            }
            names.insert(arg.name.raw.clone());
        }
    }
    (variables, names)
}

fn from_facts(
    escape: char,
    stage: &Stage,
    globals: &Variables,
    names: &BTreeSet<String>,
    defaults: &Variables,
) -> FromFacts {
    let base = globals.expand(escape, &stage.base.raw);
    let platform = stage.platform.as_ref().and_then(|word| globals.expand(escape, &word.raw));
    let unset = [&base, &platform].into_iter().flatten().flat_map(|value| &value.unset);
    let undeclared = unset
        .filter(|name| !names.contains(*name))
        .map(|name| Undefined {
            name: name.clone(),
            near: nearest(name, names.iter().map(String::as_str)).map(str::to_owned),
        })
        .collect();
    FromFacts {
        default_base: defaults.expand(escape, &stage.base.raw).map(|value| value.text),
        base: base.map(|value| value.text),
        platform,
        parent: None,
        undeclared,
    }
}

/// Finds the stages that others start from: the last one before of the name.
fn with_parents(file: &Dockerfile, mut froms: Vec<FromFacts>) -> Vec<FromFacts> {
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for (stage, facts) in file.stages.iter().zip(&mut froms) {
        let base = facts.base.as_ref().unwrap_or(&stage.base.raw);
        facts.parent = named.get(&base.to_ascii_lowercase()).copied();
        if let Some(name) = &stage.name {
            named.insert(name.to_ascii_lowercase(), stage.index);
        }
    }
    froms
}

fn wanted_platform(facts: &FromFacts, options: &CheckOptions<'_>) -> Platform {
    let asked = facts.platform.as_ref().and_then(|platform| platform.text.parse().ok());
    asked.unwrap_or_else(|| options.target_platform.clone())
}

/// The state before the first instruction. The outer `None` is `scratch`, the inner one an image
/// that nothing is known of.
fn state_of_image<'a>(image: Option<Option<BaseImage>>) -> State<'a> {
    let mut state = State { is_complete: true, ..State::default() };
    match image {
        None => {}
        Some(None) => state.is_complete = false,
        Some(Some(image)) => {
            for variable in &image.env {
                let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                state.variables.set(name, value.to_owned());
            }
            state.has_shell = image.has_shell;
            state.image_triggers = image.on_build;
        }
    }
    // Every image that is built has a PATH.
    if state.variables.get("PATH").is_none() {
        state.variables.set("PATH", String::new());
    }
    state
}

/// The stages to look at.
fn needed_stages(
    file: &Dockerfile,
    options: &CheckOptions<'_>,
    froms: &[FromFacts],
) -> BTreeSet<usize> {
    if options.scope == Scope::All && options.target.is_none() {
        return (0..file.stages.len()).collect();
    }
    let mut needed = BTreeSet::new();
    let mut open: Vec<usize> =
        file.target(options.target.as_deref()).map(|stage| stage.index).into_iter().collect();
    while let Some(index) = open.pop() {
        if !needed.insert(index) {
            continue;
        }
        let Some(stage) = file.stages.get(index) else { continue };
        open.extend(froms.get(index).and_then(|facts| facts.parent));
        for instruction in &stage.instructions {
            let froms: Vec<&Word> = match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().collect(),
                Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
                _ => Vec::new(),
            };
            open.extend(froms.into_iter().filter_map(|from| {
                match file.resolve_from(index, &from.raw) {
                    Ok(StageRef::Stage(found)) => Some(found),
                    Ok(StageRef::External(_)) | Err(_) => None,
                }
            }));
        }
    }
    needed
}

/// The walk over one stage.
struct Run<'r, 'a> {
    file: &'a Dockerfile,
    options: &'a CheckOptions<'a>,
    globals: &'r Variables,
    state: State<'a>,
    steps: Vec<Step<'a>>,
    /// How many names may still be compared for suggestions.
    budget: &'r Cell<usize>,
}

impl<'a> Run<'_, 'a> {
    fn stage(&mut self, stage: &'a Stage) {
        // Triggers run once, in the first stage on top of where they were set.
        for text in std::mem::take(&mut self.state.image_triggers) {
            if let Ok(trigger) = parse_onbuild(&text) {
                self.step(Cow::Image(Box::new(trigger)), stage.from.span);
            }
        }
        for trigger in std::mem::take(&mut self.state.triggers) {
            self.step(Cow::File(trigger), stage.from.span);
        }
        for instruction in &stage.instructions {
            if let Kind::Onbuild(onbuild) = &instruction.kind {
                self.state.triggers.push(&onbuild.trigger);
            }
            self.step(Cow::File(instruction), instruction.span);
        }
    }

    fn step(&mut self, instruction: Cow<'a>, span: Span) {
        let mut step = Step {
            instruction,
            span,
            undefined: Vec::new(),
            values: Vec::new(),
            has_shell: self.state.has_shell,
            has_workdir: self.state.has_workdir,
        };
        if let Kind::Arg(arg) = &step.instruction.kind {
            let arg = arg.clone();
            self.arg(&arg, &mut step.undefined);
        } else {
            self.expand(&mut step);
            match &step.instruction.kind {
                Kind::Env(_) => {
                    for pair in step.values.chunks_exact(2) {
                        if let [Some(name), Some(value)] = pair {
                            self.state.variables.set(name, value.clone());
                        }
                    }
                }
                Kind::Shell(_) => self.state.has_shell = true,
                Kind::Workdir(_) => self.state.has_workdir = true,
                _ => {}
            }
        }
        self.steps.push(step);
    }

    /// Expands the fields of an instruction with the variables as they are now.
    fn expand(&self, step: &mut Step<'_>) {
        let variables = &self.state.variables;
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        let expander = Expander::new(self.file.escape, &lookup);
        for field in step.instruction.expandable() {
            let unset = match field {
                Expandable::Word(word) => match expander.expand_word(&word.raw) {
                    Ok(expanded) => {
                        step.values.push(Some(expanded.text));
                        expanded.unset
                    }
                    Err(_) => {
                        step.values.push(None);
                        BTreeSet::new()
                    }
                },
                // The reference says nothing of unset variables here: they are no ports.
                Expandable::Words(word) => {
                    let words = expander.expand_words(&word.raw).map(|expanded| expanded.words);
                    step.values.extend(words.into_iter().flatten().map(Some));
                    BTreeSet::new()
                }
                Expandable::Heredoc(file) => match expander.expand_heredoc(&file.content) {
                    Ok(expanded) => expanded.unset,
                    Err(_) => BTreeSet::new(),
                },
            };
            step.undefined.extend(unset.into_iter().filter_map(|name| self.undefined(name)));
        }
    }

    fn arg(&mut self, arg: &conex_dockerfile::Arg, undefined: &mut Vec<Undefined>) {
        for arg in &arg.args {
            let name = arg.name.raw.as_str();
            let given = self.options.build_args.get(name).cloned();
            let value = match (&given, &arg.default) {
                (Some(_), _) => given,
                (None, Some(default)) => {
                    let value = self.state.variables.expand(self.file.escape, &default.raw);
                    let unset = value.as_ref().map(|value| value.unset.clone());
                    let unset = unset.unwrap_or_default().into_iter();
                    undefined.extend(unset.filter_map(|name| self.undefined(name)));
                    value.map(|value| value.text)
                }
                (None, None) => self.globals.get(name).map(str::to_owned),
            };
            if let Some(value) = value.filter(|_| !SWITCHES.contains(&name)) {
                self.state.variables.set(name, value);
            }
            self.state.declared.insert(name.to_owned());
        }
    }

    /// A name that nothing defines. On top of an image that nothing is known of, only what looks
    /// like a slip of the pen: the image may define the rest.
    fn undefined(&self, name: String) -> Option<Undefined> {
        if self.state.declared.contains(&name) || SWITCHES.contains(&name.as_str()) {
            return None;
        }
        let left = self.budget.get().checked_sub(self.state.variables.values.len());
        self.budget.set(left.unwrap_or(0));
        let near = left.and_then(|_| nearest(&name, self.state.variables.names()));
        // `GOPATH` and its like are names of their own, which images set that know them.
        let is_other = !self.state.is_complete && near == Some("PATH") && name.ends_with("PATH");
        let near = near.filter(|_| !is_other).map(str::to_owned);
        if !self.state.is_complete && near.is_none() {
            return None;
        }
        Some(Undefined { name, near })
    }
}
