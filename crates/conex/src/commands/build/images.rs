//! Finds the images that a Dockerfile starts from.

use std::cell::RefCell;
use std::collections::BTreeMap;

use conex_build::{BaseImage, Error, ErrorKind, Images};
use conex_oci::{ImageConfig, Platform, Reference};
use conex_report::Reporter;
use conex_store::{ImageRecord, Lease};

use crate::session::Session;

/// Images of the store, and where it has none of the name, of registries.
pub struct BaseImages<'s> {
    pub session: &'s Session,
    pub lease: &'s Lease,
    pub reporter: &'s dyn Reporter,
    /// `--pull`: ask the registry even if the store has the name.
    pub pull: bool,
    /// What was found, by name and the platform that was wanted.
    pub found: RefCell<BTreeMap<(String, String), ImageConfig>>,
}

impl BaseImages<'_> {
    /// What the rules for Dockerfiles want to know of an image that was found.
    pub fn facts(&self, name: &str, platform: &Platform) -> Option<conex_lint::BaseImage> {
        let found = self.found.borrow();
        let config = found.get(&(name.to_owned(), platform.to_string()))?;
        Some(conex_lint::BaseImage {
            env: config.config.env.clone(),
            has_shell: !config.config.shell.is_empty(),
            platform: Some(config.platform.clone()),
            on_build: config.config.on_build.clone(),
        })
    }
}

// The session is used by the thread that plans; nothing in it is shared while a build runs.
impl Images for BaseImages<'_> {
    fn base(&self, name: &str, platform: &Platform) -> Result<BaseImage, Error> {
        let found = if self.pull { None } else { self.in_store(name)? };
        let record = match found {
            Some(record) => record,
            None => self.pulled(name, platform)?,
        };
        self.unpacked(name, &record, platform)
    }
}

impl BaseImages<'_> {
    fn in_store(&self, name: &str) -> Result<Option<ImageRecord>, Error> {
        match self.lease.store().resolve(name) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == conex_store::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(store(error)),
        }
    }

    fn pulled(&self, name: &str, platform: &Platform) -> Result<ImageRecord, Error> {
        let reference: Reference = name.parse().map_err(|error| {
            Error::new(ErrorKind::NotFound, format!("`{name}` names no image")).caused_by(error)
        })?;
        let pulled =
            crate::transfer::pull(self.session, self.lease, &reference, platform, self.reporter);
        pulled.map_err(|error| {
            let hint = error.hint.clone();
            let message = format!(
                "the image `{}` is not in the store, and could not be pulled",
                reference.familiar()
            );
            let wrapped = Error::new(ErrorKind::NotFound, message).caused_by(error);
            match self.near(&reference).or(hint) {
                Some(hint) => wrapped.with_hint(hint),
                None => wrapped.with_hint(
                    "`conex images` lists what is there; `conex load`, `conex import` and \
                     `conex base from-host` bring images in without a registry",
                ),
            }
        })
    }

    /// An image of the store whose name looks like the one that was asked for.
    fn near(&self, reference: &Reference) -> Option<String> {
        // For a hint; what cannot be listed gives none.
        let images = self.lease.store().images().ok()?;
        let tags: Vec<&Reference> = images.iter().flat_map(|image| &image.tags).collect();
        let other_tag = tags.iter().find(|tag| tag.name() == reference.name());
        let near = match other_tag {
            Some(tag) => tag.familiar(),
            None => {
                let names: Vec<String> = tags.iter().map(|tag| tag.familiar_name()).collect();
                let name = reference.familiar_name();
                let near = conex_report::did_you_mean(&name, names.iter().map(String::as_str))?;
                near.to_owned()
            }
        };
        Some(format!("did you mean `{near}`, which is in the store?"))
    }

    fn unpacked(
        &self,
        name: &str,
        record: &ImageRecord,
        platform: &Platform,
    ) -> Result<BaseImage, Error> {
        let store_ref = self.lease.store();
        let chosen = store_ref.image_for(record, platform).map_err(store)?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("the image `{name}` is not there for `{platform}`"),
            )
        })?;
        if !self.lease.hold_image(&chosen.id).map_err(store)? {
            let message = format!("the image `{name}` was removed just now");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        crate::transfer::unpack(self.session, self.lease, &chosen.id).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot unpack the image `{name}`")).caused_by(error)
        })?;
        let config = store_ref.image_config(&chosen.id).map_err(store)?;
        let key = (name.to_owned(), platform.to_string());
        self.found.borrow_mut().insert(key, config.clone());
        Ok(BaseImage { name: name.to_owned(), config })
    }
}

fn store(error: conex_store::Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    let wrapped = Error::new(ErrorKind::Io, "cannot look for images").caused_by(error);
    match hint {
        Some(hint) => wrapped.with_hint(hint),
        None => wrapped,
    }
}
