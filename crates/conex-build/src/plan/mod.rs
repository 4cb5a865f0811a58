//! Lowers a Dockerfile to a [`Plan`]: stages that the target needs are evaluated in order, every
//! variable is expanded, every name resolved, and what changes files becomes a vertex.
//!
//! Nothing is built here. Base images are looked up, because their environment and triggers decide
//! what later lines mean.

mod history;
mod scope;
mod stage;
mod transfer;

pub use transfer::is_git;

use std::collections::BTreeMap;

use conex_dockerfile::{Dockerfile, Expander, StageRef};
use conex_oci::{Digest, ImageConfig, Platform};
use conex_report::{Diagnostic, Span, did_you_mean};

use self::scope::{GlobalScope, Outside, StageScope};
use crate::error::{Error, ErrorKind};
use crate::graph::{
    BaseImage, BuildArgs, CopyOp, CopySource, Op, Plan, Step, Target, Tree, UseCache, Vertex,
    VertexIndex,
};

/// What a build context other than the main one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder of files, opened by the caller.
    Folder,
    /// An image, as [`Images::base`] understands the name.
    Image(String),
    /// A stage of the same Dockerfile.
    Target(String),
}

/// Finds images to start from, and brings them into the store.
pub trait Images {
    /// Finds an image for a platform. On return its layers are unpacked in the store.
    ///
    /// # Errors
    /// There is no such image, not for that platform, or it cannot be brought here.
    fn base(&self, name: &str, platform: &Platform) -> Result<BaseImage, Error>;
}

/// Which steps may not use an earlier result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// All may.
    #[default]
    Nothing,
    /// None may.
    Everything,
    /// Those of these stages may not.
    Stages(Vec<String>),
}

/// What to build and with which values.
pub struct PlanOptions<'o> {
    /// The Dockerfile, parsed without errors.
    pub dockerfile: &'o Dockerfile,
    /// The stage to build; the last one if none is named.
    pub target: Option<&'o str>,
    /// Values of `--build-arg`.
    pub build_args: &'o BuildArgs,
    /// The platforms to build for; one image each.
    pub platforms: &'o [Platform],
    /// The platform that the build runs on.
    pub build_platform: &'o Platform,
    /// Build contexts by name.
    pub contexts: &'o BTreeMap<String, NamedContext>,
    /// Which steps run whatever the cache holds.
    pub no_cache: &'o NoCache,
    /// Finds base images.
    pub images: &'o dyn Images,
    /// Separates cache mounts of one project from those of another.
    pub cache_namespace: &'o str,
    /// The network of commands that ask for none.
    pub network: conex_dockerfile::Network,
}

/// What a stage came to.
#[derive(Debug, Clone)]
struct StageResult {
    head: Option<VertexIndex>,
    config: ImageConfig,
    history: Vec<Step>,
    scope: StageScope,
}

/// Plans one build.
///
/// # Errors
/// The Dockerfile asks for something that does not exist or cannot be; an image is not to be had.
pub fn plan(options: &PlanOptions<'_>) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for platform in options.platforms {
        let target_stage = match options.target {
            Some(name) => find_target(options.dockerfile, name)?,
            None => options.dockerfile.stages.len().saturating_sub(1),
        };
        if options.dockerfile.stages.is_empty() {
            return Err(Error::new(ErrorKind::Dockerfile, "the Dockerfile has no stage"));
        }
        let stage_name =
            options.dockerfile.stages.get(target_stage).and_then(|s| s.name.as_deref());
        let outside = Outside::new(
            options.build_args,
            options.build_platform,
            platform,
            stage_name.unwrap_or("default"),
        );
        let mut planner = Planner {
            options,
            outside,
            platform: platform.clone(),
            globals: GlobalScope::default(),
            stages: vec![None; options.dockerfile.stages.len()],
            images: BTreeMap::new(),
            vertices: &mut plan.vertices,
        };
        planner.declare_globals()?;
        let result = planner.stage(target_stage)?;
        plan.targets.push(Target {
            platform: platform.clone(),
            head: result.head,
            config: result.config,
            history: result.history,
        });
    }
    Ok(plan)
}

fn find_target(dockerfile: &Dockerfile, name: &str) -> Result<usize, Error> {
    let stage = dockerfile.target(Some(name)).map_err(|error| {
        let wrapped = Error::new(ErrorKind::Dockerfile, error.to_string());
        match error.hint() {
            Some(hint) => wrapped.with_hint(hint),
            None => wrapped,
        }
    })?;
    Ok(stage.index)
}

/// Evaluates the stages of one platform.
struct Planner<'o, 'p> {
    options: &'o PlanOptions<'o>,
    outside: Outside<'o>,
    platform: Platform,
    globals: GlobalScope,
    stages: Vec<Option<StageResult>>,
    /// Images that `--from` names, by name and platform.
    images: BTreeMap<(String, String), VertexIndex>,
    vertices: &'p mut Vec<Vertex>,
}

impl Planner<'_, '_> {
    fn declare_globals(&mut self) -> Result<(), Error> {
        let options = self.options;
        for instruction in &options.dockerfile.global_args {
            let conex_dockerfile::Kind::Arg(arg) = &instruction.kind else { continue };
            for definition in &arg.args {
                let outside = &self.outside;
                let mut globals = std::mem::take(&mut self.globals);
                let result = globals.declare(outside, &definition.name.raw, |known| {
                    let Some(default) = &definition.default else { return Ok(None) };
                    let lookup = |name: &str| known.lookup(outside, name);
                    let expander = Expander::new(options.dockerfile.escape, &lookup);
                    let expanded = expander
                        .expand_word(&default.raw)
                        .map_err(|error| at(default.span, error))?;
                    Ok(Some(expanded.text))
                });
                self.globals = globals;
                result?;
            }
        }
        Ok(())
    }

    /// Expands a word of a `FROM` line.
    fn expand_global(&self, word: &conex_dockerfile::Word) -> Result<String, Error> {
        let lookup = |name: &str| self.globals.lookup(&self.outside, name);
        let expander = Expander::new(self.options.dockerfile.escape, &lookup);
        let expanded = expander.expand_word(&word.raw).map_err(|error| at(word.span, error))?;
        if expanded.text.is_empty() {
            let message = format!("`{}` is empty once its variables are expanded", word.raw);
            let mut diagnostic = Diagnostic::error(word.span, message);
            if let Some(unset) = expanded.unset.first() {
                diagnostic =
                    diagnostic.with_hint(match did_you_mean(unset, self.globals.names()) {
                        Some(near) => format!("`{unset}` has no value; did you mean `{near}`?"),
                        None => format!(
                            "give `{unset}` a default before the first FROM (`ARG {unset}=…`)"
                        ),
                    });
            }
            return Err(Error::at(diagnostic));
        }
        Ok(expanded.text)
    }

    /// The tree of an image that `--from` names.
    fn image_tree(&mut self, name: &str, span: Span) -> Result<Tree, Error> {
        let platform = self.platform.clone();
        Ok(Tree::Vertex(self.image_vertex(name, &platform, span, None)?.0))
    }

    /// The vertex of an image, and the image; an image without layers has no vertex.
    fn image_vertex(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
        step: Option<String>,
    ) -> Result<(Option<VertexIndex>, BaseImage), Error> {
        let key = (name.to_owned(), platform.to_string());
        if let Some(index) = self.images.get(&key)
            && let Op::Base(base) = &self.vertices[*index].op
        {
            return Ok((Some(*index), (**base).clone()));
        }
        let base = self.options.images.base(name, platform)?;
        if base.config.rootfs.diff_ids.is_empty() {
            return Ok((None, base));
        }
        let vertex = Vertex {
            name: step.unwrap_or_else(|| format!("FROM {name}")),
            span: Some(span),
            parent: None,
            op: Op::Base(Box::new(base.clone())),
            platform: platform.clone(),
            use_cache: UseCache::Yes,
            step_id: Digest::of(name.as_bytes()),
        };
        let index = self.push(vertex);
        self.images.insert(key, index);
        Ok((Some(index), base))
    }

    /// The tree that `--from=NAME` means: a named context, an earlier stage, an image.
    fn tree(&mut self, name: &str, stage: usize, span: Span) -> Result<Tree, Error> {
        if let Some(tree) = self.context_tree(name, span)? {
            return Ok(tree);
        }
        match self.options.dockerfile.resolve_from(stage, name).map_err(|error| at(span, error))? {
            StageRef::Stage(index) => Ok(Tree::Vertex(self.stage(index)?.head)),
            StageRef::External(name) if name == "scratch" => Ok(Tree::Vertex(None)),
            StageRef::External(name) => self.image_tree(&name, span).map_err(|error| {
                let stages = self.options.dockerfile.stages.iter().take(stage);
                suggest_stage(error, &name, stages.filter_map(|stage| stage.name.as_deref()))
                    .located(span)
            }),
        }
    }

    /// The tree of a named context, if there is one of that name.
    fn context_tree(&mut self, name: &str, span: Span) -> Result<Option<Tree>, Error> {
        let contexts = self.options.contexts;
        let Some(context) = find_context(contexts, name) else { return Ok(None) };
        Ok(Some(match context {
            (name, NamedContext::Folder) => Tree::Context(Some(name.clone())),
            (_, NamedContext::Image(image)) => self.image_tree(image, span)?,
            (_, NamedContext::Target(target)) => {
                let index = find_target(self.options.dockerfile, target)?;
                Tree::Vertex(self.stage(index)?.head)
            }
        }))
    }

    /// A folder context as a root file system (`FROM name` with `--build-context name=folder`).
    fn folder_as_base(&mut self, context: &str, span: Span, name: String) -> VertexIndex {
        let from = Tree::Context(Some(context.to_owned()));
        let copy = CopyOp {
            sources: vec![CopySource::Path { from, pattern: ".".to_owned() }],
            dest: "/".to_owned(),
            dest_is_dir: true,
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            excludes: Vec::new(),
            add: false,
        };
        self.push(Vertex {
            name,
            span: Some(span),
            parent: None,
            op: Op::Copy(Box::new(copy)),
            platform: self.platform.clone(),
            use_cache: UseCache::Yes,
            step_id: Digest::of(context.as_bytes()),
        })
    }

    fn push(&mut self, vertex: Vertex) -> VertexIndex {
        self.vertices.push(vertex);
        self.vertices.len() - 1
    }

    fn use_cache(&self, stage: &str) -> UseCache {
        match self.options.no_cache {
            NoCache::Nothing => UseCache::Yes,
            NoCache::Everything => UseCache::No,
            NoCache::Stages(stages) => {
                let named = stages.iter().any(|name| name.eq_ignore_ascii_case(stage));
                if named { UseCache::No } else { UseCache::Yes }
            }
        }
    }
}

/// Finds a context by name: as written, or as a normalised image name (`alpine` and
/// `docker.io/library/alpine:latest` are one).
fn find_context<'c>(
    contexts: &'c BTreeMap<String, NamedContext>,
    name: &str,
) -> Option<(&'c String, &'c NamedContext)> {
    let exact = contexts.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    exact.or_else(|| {
        let wanted = name.parse::<conex_oci::Reference>().ok()?;
        contexts.iter().find(|(known, _)| {
            known.parse().is_ok_and(|known: conex_oci::Reference| known == wanted)
        })
    })
}

/// An image that is not to be had may be the misspelt name of a stage.
fn suggest_stage<'s>(error: Error, name: &str, stages: impl Iterator<Item = &'s str>) -> Error {
    match did_you_mean(name, stages) {
        Some(near) => error.with_hint(format!("did you mean the stage `{near}`?")),
        None => error,
    }
}

/// An error of the Dockerfile language at a place.
fn at(span: Span, error: conex_dockerfile::Error) -> Error {
    Error::at(error.at(span))
}
