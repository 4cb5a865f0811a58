//! Collecting garbage while everything else goes on: in small steps between the writes of others,
//! without a mode in which the registry does not serve.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::blobs::Object;
use crate::core::Core;
use crate::error::Result;
use crate::serve::{State, ending};
use crate::uploads::blocking;

/// Things looked at in one transaction: a few milliseconds, which is how long others wait for it.
const STEP_COUNT: usize = 200;

/// Objects removed between two looks at the database.
const TRASH_COUNT: usize = 500;

/// How often uploads are looked through.
const UPLOADS_EVERY: Duration = Duration::from_secs(600);

/// How often files are looked for that no row names: what a process leaves that is killed between
/// a rename and its row.
const STRAYS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How old such a file must be: the row of a younger one may be on its way.
const STRAY_AGE: Duration = Duration::from_secs(3600);

/// Collects until the registry ends. First comes what an earlier process left between an object and
/// its row.
pub(crate) async fn run(
    core: Arc<Core>,
    state: Arc<State>,
    unsettled: Vec<Object>,
    mut stopped: watch::Receiver<bool>,
) {
    if let Err(error) = settle(&core, unsettled).await {
        state.report(&format!("cannot finish what was interrupted: {}", error.line()));
    }
    let interval = core.times.gc_interval;
    let mut uploads_at = Instant::now() + interval;
    let mut strays_at = Instant::now() + UPLOADS_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = ending(&mut stopped) => return,
        }
        let mut results = vec![rows(&core, &stopped).await, trash(&core, &stopped).await];
        if Instant::now() >= uploads_at {
            results.push(uploads(&core).await);
            uploads_at = Instant::now() + UPLOADS_EVERY.min(core.times.upload_expiry / 2);
        }
        if Instant::now() >= strays_at {
            results.push(strays(&core, &stopped).await);
            strays_at = Instant::now() + STRAYS_EVERY;
        }
        for error in results.into_iter().filter_map(Result::err) {
            state.metrics.failures.fetch_add(1, Relaxed);
            state.report(&format!("cannot collect garbage: {}", error.line()));
        }
    }
}

async fn settle(core: &Core, unsettled: Vec<Object>) -> Result<()> {
    let unnamed = core.meta.unnamed(unsettled.clone()).await?;
    let blobs = core.blobs.clone();
    blocking(move || {
        unsettled.iter().try_for_each(|object| {
            if unnamed.contains(object) { blobs.remove(object) } else { blobs.settle(object) }
        })
    })
    .await
}

async fn rows(core: &Core, stopped: &watch::Receiver<bool>) -> Result<()> {
    while !*stopped.borrow() {
        let collected = core.meta.collect(core.now(), STEP_COUNT).await?;
        core.metrics.collected_blobs.fetch_add(collected.links as u64, Relaxed);
        core.metrics.collected_manifests.fetch_add(collected.manifests as u64, Relaxed);
        if collected.reviewed < STEP_COUNT {
            break;
        }
    }
    Ok(())
}

async fn trash(core: &Core, stopped: &watch::Receiver<bool>) -> Result<()> {
    while !*stopped.borrow() {
        let objects = core.meta.trash(core.now(), TRASH_COUNT).await?;
        let count = objects.len();
        if count == 0 {
            break;
        }
        let (blobs, gone) = (core.blobs.clone(), objects.clone());
        blocking(move || gone.iter().try_for_each(|object| blobs.remove(object))).await?;
        core.meta.forget(objects).await?;
        core.metrics.removed_objects.fetch_add(count as u64, Relaxed);
    }
    Ok(())
}

async fn uploads(core: &Core) -> Result<()> {
    core.uploads.close_idle();
    let since = core.now().before(core.times.upload_expiry);
    let blobs = core.blobs.clone();
    let count = blocking(move || blobs.expire(since)).await?;
    core.metrics.expired_uploads.fetch_add(count as u64, Relaxed);
    Ok(())
}

async fn strays(core: &Core, stopped: &watch::Receiver<bool>) -> Result<()> {
    let since = core.now().before(STRAY_AGE);
    for part in 0..crate::blobs::PART_COUNT {
        if *stopped.borrow() {
            break;
        }
        let blobs = core.blobs.clone();
        let old = blocking(move || blobs.old_objects(part, since)).await?;
        for some in old.chunks(STEP_COUNT) {
            let strays = core.meta.unnamed(some.to_vec()).await?;
            let count = strays.len();
            let blobs = core.blobs.clone();
            blocking(move || strays.iter().try_for_each(|object| blobs.remove(object))).await?;
            core.metrics.removed_objects.fetch_add(count as u64, Relaxed);
        }
    }
    Ok(())
}
