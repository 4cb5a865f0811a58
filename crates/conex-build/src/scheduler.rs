//! Runs the vertices of a graph on a few threads: each once, when its inputs are there; the first
//! failure stops the rest.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};

struct State<R> {
    results: Vec<Option<R>>,
    waiting: Vec<usize>,
    failed: Option<Error>,
}

/// Runs `work` for `0..inputs.len()`, where `inputs[i]` names what must be done before `i`.
/// `work` gets the results of the inputs by index. Returns all results.
///
/// # Errors
/// The first error of `work`; one that is not merely a consequence of canceling wins.
pub(crate) fn run<R: Clone + Send>(
    inputs: &[Vec<usize>],
    threads: usize,
    cancel: &Cancel,
    work: impl Fn(usize, &dyn Fn(usize) -> Option<R>) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let state = State {
        results: vec![None; inputs.len()],
        // Taken from the end: earlier vertices first.
        waiting: (0..inputs.len()).rev().collect(),
        failed: None,
    };
    let state = Mutex::new(state);
    let changed = Condvar::new();
    let worker = || {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if guard.failed.is_some() {
                return;
            }
            let ready = guard.waiting.iter().rposition(|vertex| {
                inputs[*vertex].iter().all(|input| guard.results[*input].is_some())
            });
            let Some(position) = ready else {
                if guard.waiting.is_empty() {
                    return;
                }
                guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let vertex = guard.waiting.remove(position);
            let known: Vec<(usize, Option<R>)> = inputs[vertex]
                .iter()
                .map(|input| (*input, guard.results[*input].clone()))
                .collect();
            drop(guard);
            let lookup = |index: usize| {
                known
                    .iter()
                    .find(|(input, _)| *input == index)
                    .and_then(|(_, result)| result.clone())
            };
            let result = cancel.check().and_then(|()| work(vertex, &lookup));
            guard = state.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(result) => guard.results[vertex] = Some(result),
                Err(error) => {
                    let better = guard.failed.as_ref().is_none_or(|known| {
                        known.kind() == ErrorKind::Canceled && error.kind() != ErrorKind::Canceled
                    });
                    if better {
                        guard.failed = Some(error);
                    }
                    cancel.cancel();
                }
            }
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(inputs.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None => state
            .results
            .into_iter()
            .collect::<Option<Vec<R>>>()
            .ok_or_else(|| Error::new(ErrorKind::Io, "the build graph has a cycle")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn inputs_come_first_and_each_vertex_runs_once() {
        let inputs = vec![vec![], vec![0], vec![0], vec![1, 2], vec![]];
        let count = AtomicUsize::new(0);
        let results = run(&inputs, 4, &Cancel::default(), |vertex, known| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(inputs[vertex].iter().map(|input| known(*input).unwrap_or(1000)).sum::<usize>() + 1)
        });
        assert_eq!(results.unwrap(), [1, 2, 2, 5, 1]);
        assert_eq!(count.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn first_failure_stops_the_rest_and_is_told() {
        let inputs: Vec<Vec<usize>> =
            (0..50).map(|i: usize| i.checked_sub(1).into_iter().collect()).collect();
        let cancel = Cancel::default();
        let result = run(&inputs, 3, &cancel, |vertex, _| match vertex {
            7 => Err(Error::unsupported("seven")),
            vertex if vertex > 7 => panic!("ran after the failure"),
            _ => Ok(()),
        });
        assert_eq!(result.unwrap_err().to_string(), "seven");
        assert!(cancel.is_canceled());
    }

    #[test]
    fn no_vertices_are_no_work() {
        assert!(run(&[], 4, &Cancel::default(), |_, _| Ok(())).unwrap().is_empty());
    }
}
