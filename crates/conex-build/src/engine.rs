//! Runs a plan: each vertex is looked up in the cache by its key, and done if it is not there.
//!
//! Parents are named in keys by chain ID, that is by content: a step whose inputs came out the
//! same as last time hits the cache even when they were made anew.

use std::path::PathBuf;
use std::sync::Arc;

use conex_layer::{LayerSummary, SnapshotTimes, Stack, WriteOptions};
use conex_oci::{ChainId, DiffId, Digest};
use conex_report::{Event, LogStream, Outcome, VertexId};
use conex_store::{LayerFacts, NewCacheRecord, NewSnapshot, Snapshot};
use conex_sys::dir::Dir;

use crate::ahead::Waiting;
use crate::error::{Error, ErrorKind};
use crate::graph::{BaseImage, Op, Plan, Tree, UseCache, Vertex, VertexIndex};
use crate::key::Components;
use crate::options::BuildOptions;
use crate::scheduler::{self, Known};
use crate::unpack::UnpackOptions;

/// The root file system that a vertex came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// The topmost layer with all below; `None` is an empty root file system.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// The layers, bottom first.
    pub(crate) diff_ids: Vec<DiffId>,
    /// Whether the vertex itself added a layer.
    pub(crate) added: bool,
    /// The key that it was found or kept by.
    pub(crate) key: Option<Digest>,
    /// Whether an earlier result served.
    pub(crate) cached: bool,
}

impl Built {
    /// Names the content.
    pub(crate) fn chain(&self) -> Option<&ChainId> {
        self.snapshot.as_deref().map(Snapshot::chain_id)
    }

    /// The chain ID as text; `scratch` for an empty root file system.
    pub(crate) fn identity(&self) -> String {
        self.chain().map_or_else(|| "scratch".to_owned(), ToString::to_string)
    }

    /// The layers' folders, topmost first.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        self.snapshot.as_deref().map(Snapshot::stack).unwrap_or_default()
    }
}

/// A layer that a step wrote, digested.
pub(crate) struct Written {
    pub(crate) new: NewSnapshot,
    diff_id: DiffId,
    summary: LayerSummary,
}

/// One run of a plan.
pub(crate) struct Engine<'e> {
    pub(crate) plan: &'e Plan,
    pub(crate) options: &'e BuildOptions<'e>,
    pub(crate) waiting: Waiting,
}

/// Gives the results of a vertex's inputs.
pub(crate) struct Inputs<'i> {
    lookup: Known<'i, Built>,
}

impl<'i> Inputs<'i> {
    pub(crate) fn new(lookup: Known<'i, Built>) -> Self {
        Self { lookup }
    }

    /// The result of an input; `None` is an empty root file system.
    pub(crate) fn get(&self, vertex: Option<VertexIndex>) -> Built {
        vertex.and_then(|vertex| (self.lookup)(vertex)).unwrap_or_default()
    }
}

impl<'e> Engine<'e> {
    /// Runs all vertices.
    pub(crate) fn run(&self) -> Result<Vec<Built>, Error> {
        let inputs: Vec<Vec<usize>> = self.plan.vertices.iter().map(inputs_of).collect();
        for (index, vertex) in self.plan.vertices.iter().enumerate() {
            let name = vertex.name.clone();
            self.tell(Event::Planned { vertex: id(index), name });
        }
        let threads = self.options.parallel.max(1);
        let built = scheduler::run(&inputs, threads, self.options.cancel, self)?;
        let served = built.iter().filter(|built| built.cached);
        let served: Vec<Digest> = served.filter_map(|built| built.key.clone()).collect();
        // So that a prune knows what was used last. A full disk is no reason to fail a build that
        // has everything it needs.
        let _ = self.store().cache_touch(&served);
        Ok(built)
    }

    pub(crate) fn tell(&self, event: Event) {
        self.options.reporter.event(event);
    }

    /// Shows a line under a vertex.
    pub(crate) fn log(&self, index: VertexIndex, stream: LogStream, data: Vec<u8>) {
        self.tell(Event::Log { vertex: id(index), stream, data });
    }

    fn vertex(
        &self,
        index: VertexIndex,
        inputs: &Inputs<'_>,
        busy: &dyn Fn(),
    ) -> Result<Built, Error> {
        self.tell(Event::Started { vertex: id(index) });
        let result = self.find_or_do(index, inputs, busy);
        let result = match self.plan.vertices[index].span {
            Some(span) => result.map_err(|error| error.located(span)),
            None => result,
        };
        let outcome = match &result {
            Ok(built) if built.cached => Outcome::Cached,
            Ok(_) => Outcome::Done,
            Err(error) if error.kind() == ErrorKind::Canceled => Outcome::Canceled,
            Err(error) => Outcome::Failed(error.of_step()),
        };
        self.tell(Event::Finished { vertex: id(index), outcome });
        result
    }

    fn find_or_do(
        &self,
        index: VertexIndex,
        inputs: &Inputs<'_>,
        busy: &dyn Fn(),
    ) -> Result<Built, Error> {
        let vertex = &self.plan.vertices[index];
        if let Op::Base(base) = &vertex.op {
            return self.base(base);
        }
        let parent = inputs.get(vertex.parent);
        let mut components = Components::new(kind(&vertex.op));
        components.add("base", parent.identity());
        components.add("platform", vertex.platform.to_string());
        components.add("epoch", self.options.epoch.to_string());
        match &vertex.op {
            Op::Base(_) => {}
            Op::Run(run) => self.run_components(run, inputs, &mut components)?,
            Op::Copy(copy) => self.copy_components(copy, inputs, &mut components)?,
            Op::Workdir(workdir) => {
                components.add("path", &workdir.path);
                components.add("user", &workdir.user);
            }
        }
        let key = components.key();
        if vertex.use_cache == UseCache::Yes
            && let Some(built) = self.look_up(&key, &parent)?
        {
            self.explain(index, vertex, &components, Lookup::Hit)?;
            return Ok(built);
        }
        // Another process may be busy with the same step: then its result will serve.
        let keep_waiting = || !self.options.cancel.is_canceled();
        let _lock = self.store().lock_key(&key, &keep_waiting).map_err(store_error)?;
        if vertex.use_cache == UseCache::Yes
            && let Some(built) = self.look_up(&key, &parent)?
        {
            self.explain(index, vertex, &components, Lookup::Hit)?;
            return Ok(built);
        }
        self.explain(index, vertex, &components, Lookup::Missed)?;
        if vertex.use_cache == UseCache::Yes
            && let Some(built) = self.fetch_cached(&key, &parent)?
        {
            self.keep(vertex, &key, &built)?;
            return Ok(built);
        }
        self.options.cancel.check()?;
        busy();
        let mut built = self.make(index, parent, inputs)?;
        built.key = Some(key.clone());
        self.keep(vertex, &key, &built)?;
        let step = (vertex.step_id.to_string(), key, components.to_value());
        self.store().cache_put_components(&[step]).map_err(store_error)?;
        Ok(built)
    }

    /// Does a vertex for which no earlier result serves.
    fn make(&self, index: VertexIndex, parent: Built, inputs: &Inputs<'_>) -> Result<Built, Error> {
        let made = match &self.plan.vertices[index].op {
            Op::Base(_) => None,
            Op::Run(run) => self.do_run(index, run, &parent, inputs)?,
            Op::Copy(copy) => {
                if let Some(written) = self.take_ahead(index, &parent)? {
                    if self.options.explain {
                        let lines = vec!["was copied while earlier steps ran".to_owned()];
                        self.tell(Event::Explained { vertex: id(index), lines });
                    }
                    return self.finish(written, parent);
                }
                Some(self.copy_onto(copy, &parent, inputs)?.0)
            }
            Op::Workdir(workdir) => self.do_workdir(workdir, &parent)?,
        };
        let Some(new) = made else { return Ok(unchanged(parent)) };
        let written = self.digest_layer(new, &parent)?;
        self.finish(written, parent)
    }

    pub(crate) fn store(&self) -> &'e conex_store::Store {
        self.options.lease.store()
    }

    fn base(&self, base: &BaseImage) -> Result<Built, Error> {
        let diff_ids = base.config.rootfs.diff_ids.clone();
        let Some(chain) = base.config.chain_id() else { return Ok(Built::default()) };
        let snapshot =
            self.options.lease.snapshot(&chain).map_err(store_error)?.ok_or_else(|| {
                let message =
                    format!("the layers of `{}` are not unpacked in the store", base.name);
                Error::new(ErrorKind::NotFound, message).with_hint("`conex system check --repair`")
            })?;
        let snapshot = Some(Arc::new(snapshot));
        Ok(Built { snapshot, diff_ids, added: true, key: None, cached: true })
    }

    fn look_up(&self, key: &Digest, parent: &Built) -> Result<Option<Built>, Error> {
        let Some(record) = self.store().cache_get(key).map_err(store_error)? else {
            return Ok(None);
        };
        let key = Some(key.clone());
        let Some(known) = record.snapshot else {
            // The step changed nothing then, so it changes nothing now.
            return Ok(Some(Built { added: false, key, cached: true, ..parent.clone() }));
        };
        let Some(snapshot) = self.options.lease.snapshot(&known.chain_id).map_err(store_error)?
        else {
            return Ok(None);
        };
        Ok(Some(Self::on_top(parent, snapshot, key, true)))
    }

    /// A parent with one more layer.
    fn on_top(parent: &Built, snapshot: Snapshot, key: Option<Digest>, cached: bool) -> Built {
        let mut diff_ids = parent.diff_ids.clone();
        diff_ids.push(snapshot.diff_id().clone());
        Built { snapshot: Some(Arc::new(snapshot)), diff_ids, added: true, key, cached }
    }

    /// Keeps a result for later builds.
    fn keep(&self, vertex: &Vertex, key: &Digest, built: &Built) -> Result<(), Error> {
        let snapshot = built.snapshot.as_ref().filter(|_| built.added);
        let record = NewCacheRecord {
            kind: kind(&vertex.op).to_owned(),
            description: vertex.name.clone(),
            snapshot: snapshot.map(|snapshot| snapshot.id().clone()),
            result: serde_json::Value::Null,
        };
        self.store().cache_put(key, &record).map_err(store_error)
    }

    /// Takes a layer that a build elsewhere made.
    fn fetch_cached(&self, key: &Digest, parent: &Built) -> Result<Option<Built>, Error> {
        for cache in self.options.cache_from {
            let Some(layer) = cache.find(key) else { continue };
            let Some(layer) = layer else {
                let key = Some(key.clone());
                return Ok(Some(Built { added: false, key, cached: true, ..parent.clone() }));
            };
            let unpack = UnpackOptions {
                form: self.options.form,
                threads: self.options.parallel,
                cancelled: Some(self.options.cancel.flag()),
            };
            let below = parent.snapshot.as_deref();
            let snapshot = crate::unpack::unpack_layer(
                self.options.lease,
                below,
                cache.source(),
                &layer.blob,
                &layer.diff_id,
                &unpack,
            )?;
            return Ok(Some(Self::on_top(parent, snapshot, Some(key.clone()), true)));
        }
        Ok(None)
    }

    /// Begins a layer.
    pub(crate) fn begin(&self) -> Result<NewSnapshot, Error> {
        self.options.lease.begin_snapshot().map_err(store_error)
    }

    /// The merged view of a result.
    pub(crate) fn stack(&self, built: &Built) -> Result<Stack, Error> {
        let open = |path: PathBuf| {
            Dir::open_ambient(&path).map_err(|source| {
                Error::io(format!("cannot open the layer `{}`", path.display()), source)
            })
        };
        let layers = built.layers().into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Stack::new(layers, self.options.form))
    }

    /// Digests the layer that a step wrote on top of another result.
    pub(crate) fn digest_layer(&self, new: NewSnapshot, parent: &Built) -> Result<Written, Error> {
        let upper = open_layer(&new)?;
        let lower = self.stack(parent)?;
        let options = WriteOptions {
            mtime_max: self.options.epoch,
            // A container sees here what it will see on any other machine.
            times: SnapshotTimes::Normalize,
            cancelled: Some(self.options.cancel.flag()),
            ..WriteOptions::new(self.options.form)
        };
        let (diff_id, summary) =
            conex_layer::diff_id_of(&upper, &lower, &options).map_err(layer_error)?;
        Ok(Written { new, diff_id, summary })
    }

    /// Makes a layer one of the store.
    fn finish(&self, written: Written, parent: Built) -> Result<Built, Error> {
        let Written { new, diff_id, summary } = written;
        if summary.is_empty() {
            return Ok(unchanged(parent));
        }
        let form = self.options.form;
        let facts = LayerFacts { diff_id, tar_size: summary.tar_size, disk_size: None, form };
        let below = parent.snapshot.as_deref();
        let lease = self.options.lease;
        let snapshot = lease.commit_snapshot(new, below, &facts).map_err(store_error)?;
        Ok(Self::on_top(&parent, snapshot, None, false))
    }

    /// Says why a step hit or missed.
    fn explain(
        &self,
        index: VertexIndex,
        vertex: &Vertex,
        components: &Components,
        lookup: Lookup,
    ) -> Result<(), Error> {
        if !self.options.explain {
            return Ok(());
        }
        let step = vertex.step_id.to_string();
        let earlier = self.store().cache_components(&step).map_err(store_error)?;
        let lines = match (lookup, vertex.use_cache, earlier) {
            (Lookup::Hit, _, _) => vec!["hit: nothing that the step depends on changed".to_owned()],
            (Lookup::Missed, UseCache::No, _) => {
                vec!["not looked up: the cache is switched off for this step".to_owned()]
            }
            (Lookup::Missed, UseCache::Yes, None) => {
                vec!["miss: this step has not been built here before".to_owned()]
            }
            (Lookup::Missed, UseCache::Yes, Some(earlier)) => {
                let changed = components.differences(&Components::from_value(&earlier.components));
                if changed.is_empty() {
                    vec!["miss: the earlier result was removed".to_owned()]
                } else {
                    changed.into_iter().map(|line| format!("miss: {line}")).collect()
                }
            }
        };
        self.tell(Event::Explained { vertex: id(index), lines });
        Ok(())
    }
}

impl scheduler::Work<Built> for Engine<'_> {
    fn run(&self, index: usize, lookup: Known<'_, Built>, busy: &dyn Fn()) -> Result<Built, Error> {
        self.vertex(index, &Inputs::new(lookup), busy)
    }

    fn can_begin(&self, index: usize, is_known: &dyn Fn(usize) -> bool) -> bool {
        self.can_copy_ahead(index, is_known)
    }

    fn begin(&self, index: usize, known: Known<'_, Built>) {
        self.copy_ahead(index, known);
    }
}

/// A step that changed nothing.
fn unchanged(parent: Built) -> Built {
    Built { added: false, key: None, cached: false, ..parent }
}

#[derive(Clone, Copy)]
enum Lookup {
    Hit,
    Missed,
}

pub(crate) fn open_layer(new: &NewSnapshot) -> Result<Dir, Error> {
    Dir::open_ambient(new.path()).map_err(|source| Error::io("cannot open the new layer", source))
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Base(_) => "base",
        Op::Run(_) => "run",
        Op::Copy(_) => "copy",
        Op::Workdir(_) => "workdir",
    }
}

/// What must be done before a vertex.
fn inputs_of(vertex: &Vertex) -> Vec<VertexIndex> {
    fn of_tree(tree: &Tree) -> Option<VertexIndex> {
        match tree {
            Tree::Vertex(vertex) => *vertex,
            Tree::Context(_) => None,
        }
    }
    let mut inputs: Vec<VertexIndex> = vertex.parent.into_iter().collect();
    match &vertex.op {
        Op::Base(_) | Op::Workdir(_) => {}
        Op::Run(run) => {
            inputs.extend(run.mounts.iter().filter_map(|mount| of_tree(mount.from.as_ref()?)));
        }
        Op::Copy(copy) => inputs.extend(copy.sources.iter().filter_map(|source| match source {
            crate::graph::CopySource::Path { from, .. } => of_tree(from),
            _ => None,
        })),
    }
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}

fn id(index: VertexIndex) -> VertexId {
    VertexId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// An error of the store, kept whole.
pub(crate) fn store_error(error: conex_store::Error) -> Error {
    let kind = match error.kind() {
        conex_store::ErrorKind::Canceled => ErrorKind::Canceled,
        conex_store::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    let hint = error.hint().map(str::to_owned);
    with_hint(Error::new(kind, "the store cannot do its part").caused_by(error), hint)
}

/// An error of a layer, kept whole.
pub(crate) fn layer_error(error: conex_layer::Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    with_hint(Error::io("cannot work on a layer", error), hint)
}

fn with_hint(error: Error, hint: Option<String>) -> Error {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
