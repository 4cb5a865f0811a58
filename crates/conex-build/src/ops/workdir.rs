//! WORKDIR: makes a folder, if it is not there.

use std::path::Path;

use conex_layer::{Attributes, LastLink};
use conex_store::NewSnapshot;
use conex_sys::stat::FileKind;

use crate::engine::{Built, Engine, layer_error};
use crate::error::{Error, ErrorKind};
use crate::graph::WorkdirOp;

impl Engine<'_> {
    pub(crate) fn do_workdir(
        &self,
        op: &WorkdirOp,
        parent: &Built,
    ) -> Result<Option<NewSnapshot>, Error> {
        let stack = self.stack(parent)?;
        let path = Path::new(&op.path);
        if let Some(stat) = stack.stat(path, LastLink::Follow).map_err(layer_error)? {
            if stat.kind == FileKind::Dir {
                return Ok(None);
            }
            let message = format!("working directory `{}` is there, and is no directory", op.path);
            return Err(Error::new(ErrorKind::Dockerfile, message));
        }
        let user = self.resolve_user(&op.user, &stack)?;
        let new = self.begin()?;
        let mut target = self.target(&new, stack)?;
        let attributes = Attributes::with_mode(0o755).owned_by(user.uid, user.gid);
        target.make_dirs(path, &attributes).map_err(layer_error)?;
        Ok(Some(new))
    }
}
