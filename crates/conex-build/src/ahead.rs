//! Copies that are written before their turn.
//!
//! While a command runs, a `COPY` further down waits for it, although what it copies is there. A
//! thread with nothing to do writes such a copy on top of what is built so far, layer digest
//! included. When the copy's turn comes and the layers that came in between have nothing to do with
//! it, it is taken as it is; else it is thrown away and made again.
//!
//! Invariant: the result is the one that waiting would have given. Nothing that goes wrong here is
//! an error: it will go wrong again when the copy's turn comes, and is told then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use conex_dockerfile::Account;
use conex_layer::fits_above;
use conex_sys::dir::Dir;

use crate::engine::{Built, Engine, Inputs, Written, layer_error, open_layer};
use crate::error::Error;
use crate::graph::{CopyOp, CopySource, Op, Tree, VertexIndex};
use crate::key::Components;
use crate::scheduler::Known;

/// A copy that was written ahead of time.
pub(crate) struct Ahead {
    written: Written,
    /// What it was written on top of.
    below: Built,
}

/// The copies that wait for their turn.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<BTreeMap<VertexIndex, Ahead>>);

impl Waiting {
    fn keep(&self, vertex: VertexIndex, ahead: Ahead) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, ahead);
    }

    fn take(&self, vertex: VertexIndex) -> Option<Ahead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&vertex)
    }
}

impl Engine<'_> {
    /// Whether a vertex is a copy that can be written now: its files are there, and nothing about
    /// it is looked up in the image.
    pub(crate) fn can_copy_ahead(
        &self,
        index: VertexIndex,
        is_known: &dyn Fn(VertexIndex) -> bool,
    ) -> bool {
        let vertex = &self.plan.vertices[index];
        let Op::Copy(copy) = &vertex.op else { return false };
        let is_there = |source: &CopySource| match source {
            CopySource::Path { from: Tree::Context(_), .. } => true,
            CopySource::Path { from: Tree::Vertex(from), .. } => from.is_none_or(is_known),
            // Their text is in the cache key already; writing it takes no time.
            CopySource::Inline { .. } | CopySource::Http { .. } | CopySource::Git { .. } => false,
        };
        !copy.add && !names_accounts(copy) && copy.sources.iter().all(is_there)
    }

    pub(crate) fn copy_ahead(&self, index: VertexIndex, known: Known<'_, Built>) {
        if let Ok(Some(ahead)) = self.written_ahead(index, known) {
            self.waiting.keep(index, ahead);
        }
    }

    fn written_ahead(
        &self,
        index: VertexIndex,
        known: Known<'_, Built>,
    ) -> Result<Option<Ahead>, Error> {
        let vertex = &self.plan.vertices[index];
        let Op::Copy(copy) = &vertex.op else { return Ok(None) };
        let inputs = Inputs::new(known);
        let mut ancestor = vertex.parent;
        let below = loop {
            let Some(index) = ancestor else { break Built::default() };
            match known(index) {
                Some(built) => break built,
                None => ancestor = self.plan.vertices[index].parent,
            }
        };
        // The contents are hashed for the key, and that is remembered.
        self.copy_components(copy, &inputs, &mut Components::new("ahead"))?;
        let (new, followed_link) = self.copy_onto(copy, &below, &inputs)?;
        if followed_link {
            return Ok(None);
        }
        let written = self.digest_layer(new, &below)?;
        Ok(Some(Ahead { written, below }))
    }

    /// A copy that was written ahead of time, if it is what it would be on top of `parent`.
    pub(crate) fn take_ahead(
        &self,
        index: VertexIndex,
        parent: &Built,
    ) -> Result<Option<Written>, Error> {
        let Some(Ahead { written, below }) = self.waiting.take(index) else { return Ok(None) };
        let layers = parent.layers();
        let Some(between) = layers.strip_suffix(below.layers().as_slice()) else {
            return Ok(None);
        };
        let open =
            |path| Dir::open_ambient(path).map_err(|error| Error::io("cannot open a layer", error));
        let between = between.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        let upper = open_layer(&written.new)?;
        let below = self.stack(&below)?;
        let (form, epoch) = (self.options.form, self.options.epoch);
        let fits = fits_above(&upper, &below, &between, form, epoch).map_err(layer_error)?;
        Ok(fits.then_some(written))
    }
}

/// Whether an owner is given by name, which only the finished image below can tell.
fn names_accounts(copy: &CopyOp) -> bool {
    let is_name = |account: &Account| matches!(account, Account::Name(_));
    copy.chown
        .as_ref()
        .is_some_and(|owner| is_name(&owner.user) || owner.group.as_ref().is_some_and(is_name))
}
