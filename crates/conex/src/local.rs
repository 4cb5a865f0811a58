//! Images of one layer, from files that are here.

use std::path::Path;

use conex_build::EPOCH_DEFAULT;
use conex_layer::{SnapshotTimes, Stack, Target, WriteOptions};
use conex_oci::{History, ImageConfig};
use conex_store::{ImageRecord, ImageSource, LayerFacts, Lease, NewImage, NewSnapshot};
use conex_sys::dir::Dir;

use crate::error::{Doing as _, Result};
use crate::session::Session;

/// A root file system that is being written.
pub struct NewRoot<'l> {
    lease: &'l Lease,
    snapshot: NewSnapshot,
    /// What is written to.
    pub target: Target,
    form: conex_layer::Form,
    epoch: i64,
}

impl<'l> NewRoot<'l> {
    /// Begins an empty one.
    pub fn begin(session: &Session, lease: &'l Lease) -> Result<Self> {
        let form = crate::transfer::form(session)?;
        let snapshot = lease.begin_snapshot()?;
        let upper = open(snapshot.path())?;
        let target = Target::new(upper, Stack::empty(form), form)?;
        let epoch = session.settings.source_date_epoch.unwrap_or(EPOCH_DEFAULT);
        Ok(Self { lease, snapshot, target, form, epoch })
    }

    /// Makes an image of it. `config` has everything but the layer; `created_by` and `comment` are
    /// its history.
    pub fn finish(
        self,
        mut config: ImageConfig,
        created_by: &str,
        comment: &str,
        source: ImageSource,
    ) -> Result<ImageRecord> {
        drop(self.target);
        let options = WriteOptions {
            mtime_max: self.epoch,
            times: SnapshotTimes::Normalize,
            ..WriteOptions::new(self.form)
        };
        let upper = open(self.snapshot.path())?;
        let (diff_id, summary) =
            conex_layer::diff_id_of(&upper, &Stack::empty(self.form), &options)?;
        let facts = LayerFacts {
            diff_id: diff_id.clone(),
            tar_size: summary.tar_size,
            disk_size: None,
            form: self.form,
        };
        self.lease.commit_snapshot(self.snapshot, None, &facts)?;
        let created = conex_term::Timestamp::from_unix(self.epoch).rfc3339_seconds();
        config.created = Some(created.clone());
        config.rootfs.diff_ids.push(diff_id);
        config.history.push(History {
            created: Some(created),
            created_by: created_by.to_owned(),
            comment: comment.to_owned(),
            ..History::default()
        });
        let bytes = config.to_bytes();
        let image = NewImage { config: &bytes, manifest: None, source };
        Ok(self.lease.put_image(&image)?)
    }
}

fn open(path: &Path) -> Result<Dir> {
    Dir::open_ambient(path).doing(|| format!("cannot open the new layer `{}`", path.display()))
}
