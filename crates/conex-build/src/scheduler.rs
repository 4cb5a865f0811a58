//! Runs the vertices of a graph on a few threads: each once, when its inputs are there; the first
//! failure stops the rest. While some wait, parts of others can be done ahead of time.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};

/// What is to be done with the vertices of a graph.
pub(crate) trait Work<R>: Sync {
    /// Does a vertex; `known` gives the results of its inputs. `busy` is to be called when the
    /// vertex turns out to take work, so that what comes after it may be begun ahead of time.
    ///
    /// # Errors
    /// Any: it ends the run.
    fn run(&self, vertex: usize, known: Known<'_, R>, busy: &dyn Fn()) -> Result<R, Error>;

    /// Whether part of a vertex can be done before all its inputs are there; `is_known` says which
    /// results are.
    fn can_begin(&self, vertex: usize, is_known: &dyn Fn(usize) -> bool) -> bool;

    /// Does part of a vertex for [`Work::run`] to find. `known` gives the results so far.
    fn begin(&self, vertex: usize, known: Known<'_, R>);
}

/// Gives results by vertex.
pub(crate) type Known<'k, R> = &'k dyn Fn(usize) -> Option<R>;

struct State<R> {
    results: Vec<Option<R>>,
    waiting: Vec<usize>,
    /// Vertices that are being worked on in earnest.
    busy: Vec<bool>,
    begun: Vec<Begun>,
    failed: Option<Error>,
}

/// What was done of a vertex ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    Running,
    Done,
}

/// What a thread does next.
enum Next {
    Run(usize),
    Begin(usize),
    Wait,
    Stop,
}

impl<R> State<R> {
    fn next(&self, inputs: &[Vec<usize>], work: &impl Work<R>) -> Next {
        if self.failed.is_some() || self.waiting.is_empty() {
            return Next::Stop;
        }
        // From the end: earlier vertices first.
        let is_known = |vertex: usize| self.results.get(vertex).is_some_and(Option::is_some);
        let mut in_order = self.waiting.iter().rev().copied();
        let ready = in_order.find(|vertex| {
            self.begun[*vertex] != Begun::Running && inputs[*vertex].iter().all(|i| is_known(*i))
        });
        if let Some(vertex) = ready {
            return Next::Run(vertex);
        }
        // Only what follows on work in earnest: else an earlier result may yet serve.
        let mut in_order = self.waiting.iter().rev().copied();
        let begin = in_order.find(|vertex| {
            self.begun[*vertex] == Begun::Nothing
                && self.waits_for_busy(inputs, *vertex)
                && work.can_begin(*vertex, &is_known)
        });
        begin.map_or(Next::Wait, Next::Begin)
    }

    fn waits_for_busy(&self, inputs: &[Vec<usize>], vertex: usize) -> bool {
        let mut seen = vec![false; inputs.len()];
        let mut todo = vec![vertex];
        while let Some(vertex) = todo.pop() {
            for input in &inputs[vertex] {
                if self.results[*input].is_some() || std::mem::replace(&mut seen[*input], true) {
                    continue;
                }
                if self.busy[*input] {
                    return true;
                }
                todo.push(*input);
            }
        }
        false
    }
}

/// Runs `work` for `0..inputs.len()`, where `inputs[i]` names what must be done before `i`.
/// Returns all results. A thread that has nothing to do begins vertices whose turn has not come.
///
/// # Errors
/// The first error of `work`; one that is not merely a consequence of canceling wins.
pub(crate) fn run<R: Clone + Send>(
    inputs: &[Vec<usize>],
    threads: usize,
    cancel: &Cancel,
    work: &impl Work<R>,
) -> Result<Vec<R>, Error> {
    let state = State {
        results: vec![None; inputs.len()],
        waiting: (0..inputs.len()).rev().collect(),
        busy: vec![false; inputs.len()],
        begun: vec![Begun::Nothing; inputs.len()],
        failed: None,
    };
    let state = Mutex::new(state);
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        let mut guard = lock();
        loop {
            match guard.next(inputs, work) {
                Next::Stop => return,
                Next::Wait => {
                    guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Next::Begin(vertex) => {
                    guard.begun[vertex] = Begun::Running;
                    let known = guard.results.clone();
                    drop(guard);
                    work.begin(vertex, &|index| known.get(index).cloned().flatten());
                    guard = lock();
                    guard.begun[vertex] = Begun::Done;
                }
                Next::Run(vertex) => {
                    guard.waiting.retain(|waiting| *waiting != vertex);
                    let known: Vec<(usize, Option<R>)> = inputs[vertex]
                        .iter()
                        .map(|input| (*input, guard.results[*input].clone()))
                        .collect();
                    drop(guard);
                    let known = |index: usize| {
                        let found = known.iter().find(|(input, _)| *input == index);
                        found.and_then(|(_, result)| result.clone())
                    };
                    let busy = || {
                        lock().busy[vertex] = true;
                        changed.notify_all();
                    };
                    let result = cancel.check().and_then(|()| work.run(vertex, &known, &busy));
                    guard = lock();
                    guard.keep(vertex, result, cancel);
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

impl<R> State<R> {
    fn keep(&mut self, vertex: usize, result: Result<R, Error>, cancel: &Cancel) {
        match result {
            Ok(result) => self.results[vertex] = Some(result),
            Err(error) => {
                let better = self.failed.as_ref().is_none_or(|known| {
                    known.kind() == ErrorKind::Canceled && error.kind() != ErrorKind::Canceled
                });
                if better {
                    self.failed = Some(error);
                }
                cancel.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Does its vertices by a function, and nothing ahead.
    struct InTurn<F>(F);

    impl<R, F: Fn(usize, Known<'_, R>) -> Result<R, Error> + Sync> Work<R> for InTurn<F> {
        fn run(&self, vertex: usize, known: Known<'_, R>, _: &dyn Fn()) -> Result<R, Error> {
            (self.0)(vertex, known)
        }

        fn can_begin(&self, _: usize, _: &dyn Fn(usize) -> bool) -> bool {
            false
        }

        fn begin(&self, _: usize, _: Known<'_, R>) {}
    }

    #[test]
    fn inputs_come_first_and_each_vertex_runs_once() {
        let inputs = vec![vec![], vec![0], vec![0], vec![1, 2], vec![]];
        let count = AtomicUsize::new(0);
        let work = InTurn(|vertex: usize, known: Known<'_, usize>| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(inputs[vertex].iter().map(|input| known(*input).unwrap_or(1000)).sum::<usize>() + 1)
        });
        let results = run(&inputs, 4, &Cancel::default(), &work);
        assert_eq!(results.unwrap(), [1, 2, 2, 5, 1]);
        assert_eq!(count.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn first_failure_stops_the_rest_and_is_told() {
        let inputs: Vec<Vec<usize>> =
            (0..50).map(|i: usize| i.checked_sub(1).into_iter().collect()).collect();
        let cancel = Cancel::default();
        let work = InTurn(|vertex, _: Known<'_, ()>| match vertex {
            7 => Err(Error::unsupported("seven")),
            vertex if vertex > 7 => panic!("ran after the failure"),
            _ => Ok(()),
        });
        let result = run(&inputs, 3, &cancel, &work);
        assert_eq!(result.unwrap_err().to_string(), "seven");
        assert!(cancel.is_canceled());
    }

    #[test]
    fn no_vertices_are_no_work() {
        let work = InTurn(|_, _: Known<'_, ()>| Ok(()));
        assert!(run(&[], 4, &Cancel::default(), &work).unwrap().is_empty());
    }

    /// Vertex 1 ends when vertex 2 has been begun; only 2 can be begun.
    struct Ahead {
        is_busy: bool,
        begun: AtomicUsize,
    }

    impl Work<()> for Ahead {
        fn run(&self, vertex: usize, _: Known<'_, ()>, busy: &dyn Fn()) -> Result<(), Error> {
            if vertex == 1 && self.is_busy {
                busy();
                while self.begun.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            }
            Ok(())
        }

        fn can_begin(&self, vertex: usize, is_known: &dyn Fn(usize) -> bool) -> bool {
            vertex == 3 && is_known(0)
        }

        fn begin(&self, vertex: usize, known: Known<'_, ()>) {
            assert_eq!((vertex, known(0), known(1)), (3, Some(()), None));
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn idle_threads_begin_what_waits_for_work_in_earnest_once() {
        let inputs = [vec![], vec![0], vec![1], vec![2], vec![2]];
        let work = Ahead { is_busy: true, begun: AtomicUsize::new(0) };
        run(&inputs, 4, &Cancel::default(), &work).unwrap();
        assert_eq!(work.begun.into_inner(), 1);
        let work = Ahead { is_busy: false, begun: AtomicUsize::new(0) };
        run(&inputs, 4, &Cancel::default(), &work).unwrap();
        assert_eq!(work.begun.into_inner(), 0);
    }
}
