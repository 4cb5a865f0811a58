//! What the unit tests of several modules share.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::auth::{Web, WebRequest, WebResponse};
use crate::error::{Error, Result};

/// A network that is never asked.
pub(crate) struct NoWeb;

impl Web for NoWeb {
    fn exchange(&self, _: WebRequest) -> Result<WebResponse> {
        Err(Error::network("there is no network here"))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH
    }
}
