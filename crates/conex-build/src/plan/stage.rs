//! Evaluates one stage: its `FROM`, its triggers, its instructions.

use conex_dockerfile::{
    Command, Expander, Instruction, Kind, Mount, PortSpec, Protocol, Run, Script, Word,
};
use conex_oci::{Digest, Empty, Healthcheck, History, ImageConfig, Platform};
use conex_report::{Diagnostic, Span};

use super::{
    NamedContext, Planner, StageResult, StageScope, at, find_context, history, scope, suggest_stage,
};
use crate::error::Error;
use crate::graph::{Op, RunMount, RunOp, ScriptFile, Step, Tree, Vertex, VertexIndex, WorkdirOp};

/// What a shell-form command runs in when no `SHELL` says otherwise.
const SHELL_DEFAULT: [&str; 2] = ["/bin/sh", "-c"];

/// Where commands of an image without a `PATH` look, as every builder sets it.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What made an entry of history: tools look for this text to tell how to read it.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// A stage while its instructions are worked through.
pub(super) struct Stage {
    pub(super) index: usize,
    /// As in `--no-cache-filter` and progress.
    pub(super) label: String,
    pub(super) head: Option<VertexIndex>,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<Step>,
    pub(super) scope: StageScope,
    pub(super) platform: Platform,
    /// `CMD` stood in this stage, so an `ENTRYPOINT` behind it does not reset it.
    cmd_set: bool,
    /// Steps shown so far and in all.
    step: usize,
    steps: usize,
    many_stages: bool,
}

impl Stage {
    /// The name of the next step that a person sees (`[build 2/5] RUN make`).
    pub(super) fn next_step(&mut self, text: &str) -> String {
        self.step += 1;
        let stage = if self.many_stages { format!("{} ", self.label) } else { String::new() };
        format!("[{stage}{}/{}] {text}", self.step, self.steps)
    }

    /// Names a step from build to build.
    fn step_id(&self, instruction: &Instruction) -> Digest {
        let position = format!("{}\n{}\n{}\n", self.label, self.step, instruction.kind.name());
        Digest::of(position.as_bytes())
    }

    /// Adds a line of history.
    pub(super) fn remember(&mut self, created_by: String, vertex: Option<VertexIndex>) {
        let history = History {
            created_by,
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: vertex.is_none(),
            ..History::default()
        };
        self.history.push(Step { history, vertex });
    }

    /// The working directory, `/` if none was set.
    pub(super) fn cwd(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            cwd => cwd,
        }
    }

    fn shell(&self) -> Vec<String> {
        match self.config.config.shell.as_slice() {
            [] => SHELL_DEFAULT.map(Into::into).into(),
            shell => shell.to_vec(),
        }
    }

    /// Expands to one word, with the variables as they are now.
    pub(super) fn expand(&self, word: &Word, escape: char) -> Result<String, Error> {
        let lookup = |name: &str| self.scope.lookup(name);
        let expanded = Expander::new(escape, &lookup).expand_word(&word.raw);
        Ok(expanded.map_err(|error| at(word.span, error))?.text)
    }

    fn expand_words(&self, word: &Word, escape: char) -> Result<Vec<String>, Error> {
        let lookup = |name: &str| self.scope.lookup(name);
        let expanded = Expander::new(escape, &lookup).expand_words(&word.raw);
        Ok(expanded.map_err(|error| at(word.span, error))?.words)
    }
}

impl Planner<'_, '_> {
    /// Evaluates a stage, once.
    pub(super) fn stage(&mut self, index: usize) -> Result<StageResult, Error> {
        if let Some(result) = &self.stages[index] {
            return Ok(result.clone());
        }
        let mut stage = self.begin(index)?;
        let triggers = std::mem::take(&mut stage.config.config.on_build);
        for trigger in &triggers {
            let instruction = conex_dockerfile::parse_onbuild(trigger).map_err(|diagnostic| {
                let span = self.options.dockerfile.stages[index].from.span;
                let message =
                    format!("trigger `{trigger}` of the base image: {}", diagnostic.message);
                Error::at(Diagnostic { span: Some(span), message, ..diagnostic })
            })?;
            self.instruction(&mut stage, &instruction)?;
        }
        for instruction in &self.options.dockerfile.stages[index].instructions {
            self.instruction(&mut stage, instruction)?;
        }
        let result = StageResult {
            head: stage.head,
            config: stage.config,
            history: stage.history,
            scope: stage.scope,
        };
        self.stages[index] = Some(result.clone());
        Ok(result)
    }

    /// `FROM`.
    fn begin(&mut self, index: usize) -> Result<Stage, Error> {
        let dockerfile = &self.options.dockerfile;
        let source = &dockerfile.stages[index];
        let base_name = self.expand_global(&source.base)?;
        let platform = match &source.platform {
            Some(word) => {
                let text = self.expand_global(word)?;
                text.parse().map_err(|error: conex_oci::Error| {
                    Error::at(Diagnostic::error(word.span, error.to_string()))
                })?
            }
            None => self.platform.clone(),
        };
        let makes_step = |instruction: &&Instruction| {
            matches!(
                instruction.kind,
                Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_)
            )
        };
        let mut stage = Stage {
            index,
            label: source.name.clone().unwrap_or_else(|| format!("stage-{index}")),
            head: None,
            config: ImageConfig::scratch(platform.clone()),
            history: Vec::new(),
            scope: StageScope::default(),
            platform,
            cmd_set: false,
            step: 0,
            steps: 1 + source.instructions.iter().filter(makes_step).count(),
            many_stages: dockerfile.stages.len() > 1,
        };
        self.start_from(&mut stage, &base_name, source.base.span)?;
        if stage.config.config.env_value("PATH").is_none() {
            stage.config.config.set_env("PATH", PATH_DEFAULT);
        }
        let inherited = std::mem::take(&mut stage.scope);
        stage.scope = StageScope::new(&stage.config.config.env).with_args_of(&inherited);
        Ok(stage)
    }

    fn start_from(&mut self, stage: &mut Stage, name: &str, span: Span) -> Result<(), Error> {
        let step = stage.next_step(&format!("FROM {name}"));
        let stage_name = self.options.dockerfile.stages[stage.index].name.clone();
        let contexts = self.options.contexts;
        // A context named like the stage replaces the whole of it; named like its base, the base.
        let context = stage_name
            .and_then(|name| find_context(contexts, &name))
            .or_else(|| find_context(contexts, name));
        match context {
            Some((context, NamedContext::Folder)) => {
                stage.head = Some(self.folder_as_base(context, span, step));
                return Ok(());
            }
            Some((_, NamedContext::Image(image))) => {
                return self.start_from_image(stage, image, span, step);
            }
            Some((_, NamedContext::Target(target))) => {
                let index = super::find_target(self.options.dockerfile, target)?;
                return self.start_from_stage(stage, index);
            }
            None => {}
        }
        if name == "scratch" {
            return Ok(());
        }
        let earlier = self.options.dockerfile.stages[..stage.index]
            .iter()
            .rposition(|earlier| earlier.name.as_deref() == Some(&name.to_ascii_lowercase()));
        match earlier {
            Some(index) => self.start_from_stage(stage, index),
            None => self.start_from_image(stage, name, span, step),
        }
    }

    fn start_from_stage(&mut self, stage: &mut Stage, index: usize) -> Result<(), Error> {
        let base = self.stage(index)?;
        stage.head = base.head;
        stage.config = base.config;
        stage.history = base.history;
        stage.scope = base.scope;
        Ok(())
    }

    fn start_from_image(
        &mut self,
        stage: &mut Stage,
        name: &str,
        span: Span,
        step: String,
    ) -> Result<(), Error> {
        let platform = stage.platform.clone();
        let (head, base) =
            self.image_vertex(name, &platform, span, Some(step)).map_err(|error| {
                let stages = self.options.dockerfile.stages.iter().take(stage.index);
                let names = stages.filter_map(|stage| stage.name.as_deref());
                suggest_stage(error, name, names).located(span)
            })?;
        stage.head = head;
        stage.config = base.config;
        Ok(())
    }

    /// Works one instruction in.
    pub(super) fn instruction(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        match &instruction.kind {
            Kind::From(_) => Ok(()),
            Kind::Arg(arg) => self.arg(stage, arg),
            Kind::Env(pairs) => self.env(stage, pairs),
            Kind::Label(pairs) => self.label(stage, pairs),
            Kind::Run(run) => self.run(stage, instruction, run),
            Kind::Copy(copy) => self.copy(stage, instruction, copy),
            Kind::Add(add) => self.add(stage, instruction, add),
            Kind::Cmd(command) => {
                let words = self.command(stage, command);
                stage.config.config.args_escaped = matches!(command, Command::Shell(_));
                stage.remember(history::list("CMD", &words), None);
                stage.config.config.cmd = Some(words);
                stage.cmd_set = true;
                Ok(())
            }
            Kind::Entrypoint(command) => {
                let words = self.command(stage, command);
                stage.remember(history::list("ENTRYPOINT", &words), None);
                stage.config.config.entrypoint = Some(words);
                if !stage.cmd_set {
                    stage.config.config.cmd = None;
                }
                Ok(())
            }
            Kind::Expose(words) => self.expose(stage, words),
            Kind::Volume(words) => self.volume(stage, words),
            Kind::User(word) => {
                let user = stage.expand(word, self.escape())?;
                stage.remember(format!("USER {user}"), None);
                stage.config.config.user = user;
                Ok(())
            }
            Kind::Workdir(word) => self.workdir(stage, instruction, word),
            Kind::Shell(words) => {
                let words: Vec<String> = words.iter().map(|word| word.raw.clone()).collect();
                stage.remember(format!("SHELL [{}]", words.join(" ")), None);
                stage.config.config.shell = words;
                Ok(())
            }
            Kind::Stopsignal(word) => {
                let signal = stage.expand(word, self.escape())?;
                conex_dockerfile::parse_signal(&signal).map_err(|error| at(word.span, error))?;
                stage.remember(format!("STOPSIGNAL {signal}"), None);
                stage.config.config.stop_signal = signal;
                Ok(())
            }
            Kind::Healthcheck(healthcheck) => {
                self.healthcheck(stage, healthcheck);
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                stage.remember(format!("ONBUILD {}", onbuild.expression), None);
                stage.config.config.on_build.push(onbuild.expression.clone());
                Ok(())
            }
            Kind::Maintainer(word) => {
                stage.remember(format!("MAINTAINER {}", word.raw), None);
                stage.config.author.clone_from(&word.raw);
                Ok(())
            }
        }
    }

    pub(super) fn escape(&self) -> char {
        self.options.dockerfile.escape
    }

    fn arg(&mut self, stage: &mut Stage, arg: &conex_dockerfile::Arg) -> Result<(), Error> {
        let escape = self.escape();
        let mut texts = Vec::new();
        for definition in &arg.args {
            let name = &definition.name.raw;
            let mut scope = std::mem::take(&mut stage.scope);
            let value = scope.declare(&self.outside, &self.globals, name, |known| {
                let Some(default) = &definition.default else { return Ok(None) };
                let lookup = |name: &str| known.lookup(name);
                let expanded = Expander::new(escape, &lookup).expand_word(&default.raw);
                Ok(Some(expanded.map_err(|error| at(default.span, error))?.text))
            });
            stage.scope = scope;
            match value? {
                Some(value) if !scope::is_proxy(name) => texts.push(format!("{name}={value}")),
                _ => texts.push(name.clone()),
            }
        }
        stage.remember(format!("ARG {}", texts.join(" ")), None);
        Ok(())
    }

    /// The pairs of `ENV` and `LABEL`, all expanded before any of them counts.
    fn pairs(
        &self,
        stage: &Stage,
        pairs: &conex_dockerfile::Pairs,
    ) -> Result<Vec<(String, String)>, Error> {
        let escape = self.escape();
        let expand = |word| stage.expand(word, escape);
        pairs.pairs.iter().map(|pair| Ok((expand(&pair.key)?, expand(&pair.value)?))).collect()
    }

    fn env(&self, stage: &mut Stage, pairs: &conex_dockerfile::Pairs) -> Result<(), Error> {
        let pairs = self.pairs(stage, pairs)?;
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for (key, value) in &pairs {
            stage.scope.set_env(key, value);
            stage.config.config.set_env(key, value);
        }
        stage.remember(format!("ENV {}", text.join(" ")), None);
        Ok(())
    }

    fn label(&self, stage: &mut Stage, pairs: &conex_dockerfile::Pairs) -> Result<(), Error> {
        let pairs = self.pairs(stage, pairs)?;
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        stage.config.config.labels.extend(pairs);
        stage.remember(format!("LABEL {}", text.join(" ")), None);
        Ok(())
    }

    /// The arguments of `CMD` and the like; the shell form goes through the shell.
    fn command(&self, stage: &Stage, command: &Command) -> Vec<String> {
        match command {
            Command::Shell(text) => {
                let mut words = stage.shell();
                words.push(text.raw.clone());
                words
            }
            Command::Exec(words) => words.iter().map(|word| word.raw.clone()).collect(),
        }
    }

    fn expose(&self, stage: &mut Stage, words: &[Word]) -> Result<(), Error> {
        let mut ports = Vec::new();
        for word in words {
            for text in stage.expand_words(word, self.escape())? {
                let spec = PortSpec::parse(&text).map_err(|error| at(word.span, error))?;
                let protocol = match spec.protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                    Protocol::Sctp => "sctp",
                };
                ports.extend((spec.first..=spec.last).map(|port| format!("{port}/{protocol}")));
            }
        }
        ports.sort();
        let text: Vec<String> = ports.iter().map(|port| format!("{port}:{{}}")).collect();
        stage.remember(format!("EXPOSE map[{}]", text.join(" ")), None);
        stage.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn volume(&self, stage: &mut Stage, words: &[Word]) -> Result<(), Error> {
        let paths: Vec<String> =
            words.iter().map(|word| stage.expand(word, self.escape())).collect::<Result<_, _>>()?;
        if let Some(at) = paths.iter().position(|path| path.trim().is_empty()) {
            let message = "VOLUME cannot be an empty path";
            return Err(Error::at(Diagnostic::error(words[at].span, message)));
        }
        stage.remember(format!("VOLUME [{}]", paths.join(" ")), None);
        stage.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    fn workdir(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<(), Error> {
        let path = stage.expand(word, self.escape())?;
        let path = absolute(stage.cwd(), &path);
        stage.config.config.working_dir.clone_from(&path);
        let name = stage.next_step(&format!("WORKDIR {path}"));
        let vertex = if path == "/" {
            None
        } else {
            let user = stage.config.config.user.clone();
            let op = Op::Workdir(WorkdirOp { path: path.clone(), user });
            Some(self.step(stage, instruction, name, op))
        };
        stage.remember(format!("WORKDIR {path}"), vertex);
        Ok(())
    }

    fn healthcheck(&self, stage: &mut Stage, healthcheck: &conex_dockerfile::Healthcheck) {
        let check = match healthcheck {
            conex_dockerfile::Healthcheck::None => {
                Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
            }
            conex_dockerfile::Healthcheck::Command {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let nanoseconds = |duration: &Option<std::time::Duration>| {
                    duration.map_or(0, |duration| {
                        u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
                    })
                };
                let mut test = match command {
                    Command::Shell(_) => vec!["CMD-SHELL".to_owned()],
                    Command::Exec(_) => vec!["CMD".to_owned()],
                };
                match command {
                    Command::Shell(text) => test.push(text.raw.clone()),
                    Command::Exec(words) => test.extend(words.iter().map(|word| word.raw.clone())),
                }
                Healthcheck {
                    test,
                    interval: nanoseconds(interval),
                    timeout: nanoseconds(timeout),
                    start_period: nanoseconds(start_period),
                    start_interval: nanoseconds(start_interval),
                    retries: retries.unwrap_or(0).into(),
                }
            }
        };
        stage.remember(history::list("HEALTHCHECK", &check.test), None);
        stage.config.config.healthcheck = Some(check);
    }

    /// Adds a vertex that changes files; it becomes the stage's head.
    pub(super) fn step(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        name: String,
        op: Op,
    ) -> VertexIndex {
        let vertex = Vertex {
            name,
            span: Some(instruction.head),
            parent: stage.head,
            op,
            platform: stage.platform.clone(),
            use_cache: self.use_cache(&stage.label),
            step_id: stage.step_id(instruction),
        };
        let index = self.push(vertex);
        stage.head = Some(index);
        index
    }

    fn run(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Error> {
        let mut script_file = None;
        let script = instruction.script().unwrap_or_else(|| Script::Shell(String::new()));
        let args = match script {
            Script::Exec(words) => words.into_iter().map(str::to_owned).collect(),
            Script::Shell(text) => {
                let mut args = stage.shell();
                args.push(text);
                args
            }
            Script::File { name, content } => {
                script_file = Some(ScriptFile { name: name.to_owned(), content });
                vec![format!("/dev/pipes/{name}")]
            }
        };
        let proxies = conex_dockerfile::PREDEFINED_ARGS.iter().filter_map(|name| {
            let value = self.options.build_args.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        let op = RunOp {
            script: script_file,
            env: stage.scope.run_env(),
            proxy_env: proxies.collect(),
            cwd: stage.cwd().to_owned(),
            user: stage.config.config.user.clone(),
            mounts: self.mounts(stage, run)?,
            network: match run.network {
                conex_dockerfile::Network::Default => self.options.network,
                chosen => chosen,
            },
            security: run.security,
            args,
        };
        let created_by = history::run(&stage.scope.run_args(), &op.args);
        let name = stage.next_step(&instruction.text);
        let vertex = self.step(stage, instruction, name, Op::Run(Box::new(op)));
        stage.remember(created_by, Some(vertex));
        Ok(())
    }

    fn mounts(&mut self, stage: &Stage, run: &Run) -> Result<Vec<RunMount>, Error> {
        let escape = self.escape();
        let mut mounts = Vec::new();
        let mut agents = 0;
        for flag in &run.mounts {
            let lookup = |name: &str| stage.scope.lookup(name);
            let expander = Expander::new(escape, &lookup);
            let mut mount = flag
                .resolve(|value| Ok(expander.expand_word(&value.raw)?.text))
                .map_err(|error| at(flag.span, error))?;
            let target = match &mut mount {
                Mount::Bind(bind) => bind.target.clone(),
                Mount::Cache(cache) => {
                    let namespace = self.options.cache_namespace;
                    if !namespace.is_empty() {
                        cache.id = format!("{namespace}/{}", cache.id);
                    }
                    cache.target.clone()
                }
                Mount::Tmpfs(tmpfs) => tmpfs.target.clone(),
                Mount::Secret(secret) => secret.target.clone().unwrap_or_default(),
                Mount::Ssh(ssh) => {
                    agents += 1;
                    let default = || format!("/run/buildkit/ssh_agent.{}", agents - 1);
                    ssh.target.clone().unwrap_or_else(default)
                }
            };
            let variable_only = matches!(&mount, Mount::Secret(secret) if secret.target.is_none());
            let target = if variable_only { String::new() } else { absolute(stage.cwd(), &target) };
            let from = match &mount {
                Mount::Bind(bind) => Some(match &bind.from {
                    Some(name) => self.tree(name, stage.index, flag.span)?,
                    None => Tree::Context(None),
                }),
                Mount::Cache(cache) => match &cache.from {
                    Some(name) => Some(self.tree(name, stage.index, flag.span)?),
                    None => None,
                },
                _ => None,
            };
            mounts.push(RunMount { target, from, mount });
        }
        Ok(mounts)
    }
}

/// Joins a path to a working directory and cleans it: no empty, `.` or `..` part is left.
pub(super) fn absolute(cwd: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{cwd}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn paths_join_and_never_leave_the_root() {
        for (cwd, path, wanted) in [
            ("/", "app", "/app"),
            ("/app", "src/../lib/", "/app/lib"),
            ("/app", "/etc", "/etc"),
            ("/app", "../../..", "/"),
            ("/app", ".", "/app"),
            ("/app", "", "/app"),
        ] {
            assert_eq!(absolute(cwd, path), wanted, "{cwd} + {path}");
        }
    }
}
