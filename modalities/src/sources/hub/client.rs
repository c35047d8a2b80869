//! Asking the hub: redirects, waiting and trying again.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use astropt_core::{Error, Result, progress, stop};
use serde_json::error::Category;
use ureq::http::header::{AUTHORIZATION, LINK, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::address::{Origin, follow, next_page};
use super::environment::Environment;

/// How often a question is asked before it is given up, while a person may be waiting for a
/// beginning: half a minute.
const ATTEMPTS: u32 = 6;
/// The same once a run is going, which an outage of some minutes must not end: 7 to 10 minutes.
const PATIENT_ATTEMPTS: u32 = 15;
/// The time between two of them doubles until it is so many times the first.
const MOST_DOUBLED: u32 = 64;
/// Longest time between two of them, whatever the hub asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const MAX_REDIRECTS: usize = 8;
/// Largest answer that is kept in memory.
const MAX_ANSWER: u64 = 64 << 20;
/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// A client of the hub. Clones share connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    environment: Environment,
    /// Where the token may go.
    home: Option<Origin>,
    /// Time before the second attempt; it doubles from there.
    first_wait: Duration,
    longest_wait: Duration,
    /// How often a question is asked.
    pub(super) attempts: u32,
    /// Where redirects may lead, `host:port`; anywhere if `None`.
    hosts: Option<Vec<String>>,
    /// Set when nobody waits for the answers any more.
    cancelled: Arc<AtomicBool>,
}

/// Why an attempt failed.
enum Failure {
    /// It may go better the next time, after this time if the hub says so.
    Passing(String, Option<Duration>),
    /// It will not.
    Final(Error),
}

impl Client {
    pub(super) fn new(environment: Environment, first_wait: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("astropt/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        Self {
            agent: config.build().new_agent(),
            home: Origin::of(&environment.endpoint),
            environment,
            first_wait,
            longest_wait: LONGEST_WAIT,
            attempts: ATTEMPTS,
            hosts: None,
            cancelled: Arc::default(),
        }
    }

    /// A client that waits no longer than `longest`, whatever the hub asks for, and is led
    /// nowhere but to these `hosts` (`host:port`).
    pub(super) fn confined(self, longest: Duration, hosts: Vec<String>) -> Self {
        Self { longest_wait: longest, hosts: Some(hosts), ..self }
    }

    /// A client that waits for the end of an outage of some minutes; one that is confined keeps to
    /// the patience that it was given.
    pub(super) fn patient(self) -> Self {
        let attempts = if self.hosts.is_some() { self.attempts } else { PATIENT_ATTEMPTS };
        Self { attempts, ..self }
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Makes all that waits for an answer give up.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether answers are still wanted.
    ///
    /// # Errors
    /// When the user has asked to stop, or the source is closed.
    pub(super) fn check_wanted(&self) -> Result<()> {
        if stop::asked() || self.cancelled.load(Ordering::SeqCst) {
            return Err(stop::stopped(" while files were fetched"));
        }
        Ok(())
    }

    /// Waits before attempt `attempt` (from 1) to have `what` is made again: twice as long each
    /// time, with a random part so that many clients do not come back at once.
    ///
    /// # Errors
    /// See [`check_wanted`](Self::check_wanted).
    pub(super) fn back_off(
        &self,
        attempt: u32,
        asked: Option<Duration>,
        (what, why): (&str, &str),
    ) -> Result<()> {
        let doubled = (1 << attempt.saturating_sub(1).min(16)).min(MOST_DOUBLED);
        let doubled = self.first_wait.saturating_mul(doubled);
        let random = RandomState::new().hash_one(attempt) >> 32;
        let jitter = 0.75 + random as f64 / f64::from(u32::MAX) / 4.0;
        let wait = asked.unwrap_or(doubled.mul_f64(jitter)).min(self.longest_wait);
        if wait >= Duration::from_secs(2) {
            let seconds = wait.as_secs();
            progress::say(&format!(
                "waiting for {what}: the hub does not deliver it ({why}); trying again in {seconds}s, \
                 {attempt} of {} attempts made",
                self.attempts
            ));
        }
        let until = Instant::now() + wait;
        while Instant::now() < until {
            self.check_wanted()?;
            std::thread::sleep(GLANCE.min(until.saturating_duration_since(Instant::now())));
        }
        self.check_wanted()
    }

    /// The answer to a GET of `address`, from byte `from` to before `to` if a range is given,
    /// with the status 200 or 206.
    ///
    /// # Errors
    /// When there is none after some attempts, or the hub refuses; `what` names what was
    /// asked for.
    pub(super) fn get(
        &self,
        address: &str,
        range: Option<(u64, Option<u64>)>,
        what: &str,
    ) -> Result<Response<Body>> {
        let mut attempt = 0;
        loop {
            self.check_wanted()?;
            attempt += 1;
            match self.once(address, range, what) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why, _)) if attempt == self.attempts => {
                    return Err(Error::Failed(format!(
                        "{what}: {} did not deliver in {attempt} attempts ({why}); check the \
                         connection and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what is here",
                        self.environment.endpoint
                    )));
                }
                Err(Failure::Passing(why, asked)) => {
                    self.back_off(attempt, asked, (what, &why))?;
                }
            }
        }
    }

    fn once(
        &self,
        address: &str,
        range: Option<(u64, Option<u64>)>,
        what: &str,
    ) -> Result<Response<Body>, Failure> {
        let mut address = address.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send(&address, range)?;
            if !answer.status().is_redirection() {
                return self.judge(answer, what);
            }
            let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let next = location.and_then(|location| follow(&address, location));
            let secure = Origin::of(&address).is_some_and(|origin| !origin.is_open());
            address = next
                .filter(|next| !secure || Origin::of(next).is_some_and(|o| !o.is_open()))
                .ok_or_else(|| {
                    let message = "the hub leads to an address that cannot be followed";
                    Failure::Final(Error::Failed(format!("{what}: {message}")))
                })?;
            let origin = Origin::of(&address).map(|origin| origin.host());
            if let (Some(hosts), Some(host)) = (&self.hosts, origin)
                && !hosts.contains(&host)
            {
                let message = format!("{what}: the hub leads to {host}, which is not asked here");
                return Err(Failure::Final(Error::Failed(message)));
            }
        }
        let message = format!("{what}: more than {MAX_REDIRECTS} redirects");
        Err(Failure::Final(Error::Failed(message)))
    }

    fn send(
        &self,
        address: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(address);
        if let Some((from, to)) = range {
            let last = to.map(|to| to.saturating_sub(1).to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={from}-{last}"));
        }
        // To the hub alone, wherever it leads from there.
        if let Some(token) = &self.environment.token
            && self.home.is_some()
            && Origin::of(address) == self.home
        {
            request = request.header(AUTHORIZATION, token.header());
        }
        request.call().map_err(|e| Failure::Passing(e.to_string(), None))
    }

    fn judge(&self, answer: Response<Body>, what: &str) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
            return Ok(answer);
        }
        if status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT
            || status.is_server_error()
        {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|s| s.to_str().ok());
            let asked = asked.and_then(|text| retry_after(text, SystemTime::now()));
            return Err(Failure::Passing(format!("status {status}"), asked));
        }
        let token = match self.environment.token {
            Some(_) => "the token in use has no right to it",
            None => "set HF_TOKEN if it is private or gated",
        };
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => token.to_owned(),
            // The hub answers so for private datasets too.
            StatusCode::NOT_FOUND => format!("check its name, revision and config; {token}"),
            _ => "is HF_ENDPOINT right?".to_owned(),
        };
        Err(Failure::Final(Error::Failed(format!("{what}: the hub answers {status}; {advice}"))))
    }

    /// The JSON at `address`, and the address of the next page if there is one.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when the answer is none that was expected.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        address: &str,
        what: &str,
    ) -> Result<(T, Option<String>)> {
        let mut attempt = 0;
        let (bytes, next) = loop {
            attempt += 1;
            let mut answer = self.get(address, None, what)?;
            let link = answer.headers().get(LINK).and_then(|link| link.to_str().ok());
            let next = link.and_then(next_page).and_then(|next| follow(address, next));
            match answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
                Ok(bytes) => break (bytes, next),
                Err(error) if attempt == self.attempts => {
                    return Err(Error::Failed(format!(
                        "{what}: the answer breaks off ({error}), {attempt} times; try another \
                         HF_ENDPOINT, or later"
                    )));
                }
                Err(error) => self.back_off(attempt, None, (what, &error.to_string()))?,
            }
        };
        let value = serde_json::from_slice(&bytes).map_err(|e| {
            let found = match e.classify() {
                Category::Io | Category::Eof => "it ends in the middle",
                Category::Syntax => "it is no JSON",
                Category::Data => "it is not what the hub's interface states",
            };
            Error::Failed(format!(
                "{what}: the hub's answer cannot be read: {found}, at line {}, column {}; is \
                 HF_ENDPOINT right?",
                e.line(),
                e.column()
            ))
        })?;
        Ok((value, next))
    }

    /// Bytes `from..to` of the file at `address`.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when other bytes arrive.
    pub(super) fn bytes(&self, address: &str, from: u64, to: u64, what: &str) -> Result<Vec<u8>> {
        let wanted = to.saturating_sub(from);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut answer = self.get(address, Some((from, Some(to))), what)?;
            let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
            let body = answer.body_mut().with_config().limit(MAX_ANSWER.min(wanted + 1));
            let why = match body.read_to_vec() {
                Ok(bytes) if partial && bytes.len() as u64 == wanted => return Ok(bytes),
                Ok(_) => "it does not send the part of the file that was asked for".to_owned(),
                Err(ureq::Error::BodyExceedsLimit(_)) => {
                    format!("it sends more than the {wanted} bytes that were asked for")
                }
                Err(error) => error.to_string(),
            };
            if attempt == self.attempts {
                return Err(Error::Failed(format!(
                    "{what}: {why}, {attempt} times; try another HF_ENDPOINT, or later"
                )));
            }
            self.back_off(attempt, None, (what, &why))?;
        }
    }
}

/// How long `Retry-After` asks to wait: seconds, or until a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_back_is_seconds_or_a_date() {
        // 1994-11-06 08:49:37, the example of RFC 9110.
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let before = date - Duration::from_secs(90);
        let asked = |text: &str| retry_after(text, before).map(|wait| wait.as_secs());
        assert_eq!(asked(" 120 "), Some(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(90));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", date), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
    }
}
