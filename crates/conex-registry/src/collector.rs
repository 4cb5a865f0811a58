//! Collecting garbage while everything else goes on: in small steps between the writes of others,
//! without a mode in which the registry does not serve.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::Core;
use crate::error::Result;
use crate::serve::{State, ending};
use crate::time::Moment;
use crate::uploads::blocking;

/// Things looked at in one transaction: a few milliseconds, which is how long others wait for it.
const STEP_COUNT: usize = 200;

/// Objects removed between two looks at the database.
const TRASH_COUNT: usize = 1_000;

/// How often uploads are looked through.
const UPLOADS_EVERY: Duration = Duration::from_secs(600);

/// How often files are looked for that no row names. There are none but for failures of the disk.
const STRAYS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Collects until the registry ends. If an earlier process was interrupted, what it left between an
/// object and its row comes first.
pub(crate) async fn run(core: Arc<Core>, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let interval = core.times.gc_interval;
    let mut uploads_at = Instant::now() + interval;
    let mut strays_at = Instant::now() + STRAYS_EVERY;
    if core.blobs.is_interrupted() {
        match strays(&core, &stopped).await {
            Ok(End::All) => core.blobs.mended(),
            Ok(End::Stopped) => return,
            Err(error) => {
                state.report(&format!("cannot finish what was interrupted: {}", error.line()));
            }
        }
    }
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
            results.push(strays(&core, &stopped).await.map(|_| ()));
            strays_at = Instant::now() + STRAYS_EVERY;
        }
        for error in results.into_iter().filter_map(Result::err) {
            state.metrics.failures.fetch_add(1, Relaxed);
            state.report(&format!("cannot collect garbage: {}", error.line()));
        }
    }
}

async fn rows(core: &Core, stopped: &watch::Receiver<bool>) -> Result<()> {
    while !*stopped.borrow() {
        let began = Instant::now();
        let collected = core.meta.collect(core.now(), STEP_COUNT).await?;
        core.metrics.collected_blobs.fetch_add(collected.links as u64, Relaxed);
        core.metrics.collected_manifests.fetch_add(collected.manifests as u64, Relaxed);
        if collected.reviewed < STEP_COUNT {
            break;
        }
        // There is one writer: half of its time is for clients, however much garbage there is.
        tokio::time::sleep(began.elapsed()).await;
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

/// How far a look through everything came.
enum End {
    All,
    Stopped,
}

/// Removes files that no row names. In this order, so that none is missed whose row is on its way:
/// an object that is listed and not pending is decided, and then its row is there to be seen.
async fn strays(core: &Core, stopped: &watch::Receiver<bool>) -> Result<End> {
    for part in 0..crate::blobs::PART_COUNT {
        let blobs = core.blobs.clone();
        let all = blocking(move || blobs.old_objects(part, Moment(i64::MAX))).await?;
        for some in all.chunks(STEP_COUNT) {
            if *stopped.borrow() {
                return Ok(End::Stopped);
            }
            let decided = some.iter().filter(|object| !core.blobs.is_pending(object));
            let strays = core.meta.unnamed(decided.cloned().collect()).await?;
            let count = strays.len();
            let blobs = core.blobs.clone();
            blocking(move || strays.iter().try_for_each(|object| blobs.remove(object))).await?;
            core.metrics.removed_objects.fetch_add(count as u64, Relaxed);
        }
    }
    Ok(End::All)
}
