//! Going on together or not at all.

use std::sync::{Mutex, PoisonError};

use super::Ranks;
use crate::error::{Error, Result};

/// The last error that all ranks know of, in words.
static SETTLED: Mutex<Option<String>> = Mutex::new(None);

/// Says that every rank has this same error at this point: where they end with it, rank 0 may tell
/// of it and each may end by itself.
pub fn settled(error: Error) -> Error {
    *SETTLED.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    error
}

/// Whether [`settled`] was said of this error.
pub(super) fn is_settled(error: &Error) -> bool {
    let settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    settled.as_ref().is_some_and(|words| *words == error.to_string())
}

/// [`Error::reworded`], and [`settled`] where it was before.
pub(crate) fn reworded(error: Error, words: impl FnOnce(String) -> String) -> Error {
    let known = is_settled(&error);
    let error = error.reworded(words);
    if known { settled(error) } else { error }
}

/// What `done` holds, when it went well on every rank.
///
/// # Errors
/// The error of the first rank that had one, on every rank; named by its rank, unless all had
/// the same.
pub fn agree<T>(ranks: &dyn Ranks, done: Result<T>) -> Result<T> {
    agree_with(ranks, done, []).map(|(done, [])| done)
}

/// As [`agree`]; and of each flag whether any rank has raised it.
///
/// # Errors
/// As [`agree`].
pub fn agree_with<T, const N: usize>(
    ranks: &dyn Ranks,
    done: Result<T>,
    flags: [bool; N],
) -> Result<(T, [bool; N])> {
    if ranks.size() == 1 {
        return done.map(|done| (done, flags));
    }
    let raised = std::iter::once(done.is_err()).chain(flags);
    let mut raised: Vec<f32> = raised.map(|flag| f32::from(u8::from(flag))).collect();
    ranks.sum(&mut raised)?;
    if raised[0] == 0.0 {
        return done.map(|done| (done, std::array::from_fn(|k| raised[k + 1] > 0.0)));
    }
    let told = match &done {
        Ok(_) => Vec::new(),
        Err(error) => encode(error, &ranks.host()),
    };
    let told = ranks.share(&told)?;
    Err(settled(first_error(&told)))
}

/// Does `work` on rank 0; the others wait for it, asleep, and learn whether it went well.
///
/// # Errors
/// The error of `work`, on every rank.
pub fn first<T>(ranks: &dyn Ranks, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let done = match ranks.rank() {
        0 => work().map(Some),
        _ => Ok(None),
    };
    if ranks.size() == 1 {
        return done;
    }
    ranks.wait()?;
    agree(ranks, done)
}

/// What tells a folder that is held from other errors that exit with 1.
const HELD: u8 = u8::MAX;

/// An error as bytes: its exit code or, for an interruption, 0; the machine; the words.
fn encode(error: &Error, host: &str) -> Vec<u8> {
    let kind = match error {
        Error::Interrupted(_) => 0,
        Error::Held(_) => HELD,
        error => error.exit_code(),
    };
    let mut bytes = vec![kind];
    bytes.extend(host.as_bytes());
    bytes.push(0);
    bytes.extend(error.to_string().as_bytes());
    bytes
}

/// The error among what the ranks told: an interruption only where nothing worse happened.
fn first_error(told: &[Vec<u8>]) -> Error {
    let failed = told.iter().position(|bytes| bytes.first().is_some_and(|&kind| kind > 0));
    let first = failed.or_else(|| told.iter().position(|bytes| !bytes.is_empty())).unwrap_or(0);
    let Some((&kind, rest)) = told.get(first).and_then(|bytes| bytes.split_first()) else {
        return Error::Failed("another process failed and did not say why".into());
    };
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(0);
    let (host, said) = (words(&rest[..end]), words(rest.get(end + 1..).unwrap_or_default()));
    let same = |bytes: &Vec<u8>| {
        let end = bytes.iter().skip(1).position(|&byte| byte == 0);
        end.is_some_and(|end| bytes.get(end + 2..) == Some(said.as_bytes()))
    };
    let message = match first == 0 || told.iter().all(same) {
        true => said,
        false => format!("process {first} of {} on {host}: {said}", told.len()),
    };
    match kind {
        0 => Error::Interrupted(message),
        2 => Error::Misuse(message),
        HELD => Error::Held(message),
        _ => Error::Failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::ranks::threads;

    #[test]
    fn all_go_on_or_none() {
        let went = threads(3, |ranks| agree(ranks, Ok(ranks.rank())).ok());
        assert_eq!(went, [Some(0), Some(1), Some(2)]);
        let ended = threads(3, |ranks| {
            let done = match ranks.rank() {
                1 => Err(Error::Misuse("no such thing".into())),
                rank => Ok(rank),
            };
            let error = agree(ranks, done).expect_err("one has failed");
            (error.exit_code(), error.to_string())
        });
        assert!(ended.iter().all(|end| *end == ended[0]), "{ended:?}");
        assert_eq!(ended[0].0, 2);
        assert!(ended[0].1.starts_with("process 1 of 3 on "), "{}", ended[0].1);
        assert!(ended[0].1.ends_with(": no such thing"), "{}", ended[0].1);
    }

    #[test]
    fn errors_stay_what_they_are() {
        let kinds: [fn(String) -> Error; 4] =
            [Error::Misuse, Error::Interrupted, Error::Held, Error::Failed];
        for of in kinds {
            let ended = threads(2, |ranks| {
                agree(ranks, Err::<(), _>(of("no".into()))).expect_err("failed")
            });
            let same =
                |error| std::mem::discriminant(error) == std::mem::discriminant(&of("no".into()));
            assert!(ended.iter().all(same), "{ended:?}");
        }
    }

    #[test]
    fn an_error_of_all_is_said_once() {
        let ended = threads(2, |ranks| {
            agree(ranks, Err::<(), _>(Error::Failed("no data".into()))).expect_err("failed")
        });
        assert!(ended.iter().all(|error| error.to_string() == "no data"), "{ended:?}");
    }

    #[test]
    fn a_failure_outweighs_an_interruption() {
        let ended = threads(2, |ranks| {
            let error = match ranks.rank() {
                0 => Error::Interrupted("stopped".into()),
                _ => Error::Failed("broken".into()),
            };
            agree(ranks, Err::<(), _>(error)).expect_err("failed")
        });
        for error in ended {
            assert!(matches!(error, Error::Failed(_)), "{error:?}");
        }
    }

    #[test]
    fn the_first_works_for_all() {
        let done = threads(2, |ranks| first(ranks, || Ok(7)).expect("works"));
        assert_eq!(done, [Some(7), None]);
        let failed = threads(2, |ranks| {
            let work = || Err::<(), _>(Error::Failed("the disk is full".into()));
            first(ranks, work).expect_err("fails").to_string()
        });
        assert_eq!(failed, ["the disk is full", "the disk is full"]);
    }

    #[test]
    fn a_flag_of_one_is_seen_by_all() {
        let seen = threads(3, |ranks| {
            agree_with(ranks, Ok(()), [ranks.rank() == 2, false]).expect("all is well").1
        });
        assert_eq!(seen, [[true, false]; 3]);
    }
}
