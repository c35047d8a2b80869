//! Which objects get a span, and what is given of each: no more than the model has learnt to
//! read before it.

use std::collections::BTreeMap;

use super::{Wanted, known, nothing_given};
use crate::data::{Dataset, Objective, OrderWord, Row, SpanOrder, Split, StreamConfig};
use crate::error::{Error, Result};
use crate::observation::Observation;
use crate::progress;
use crate::seam::SpanFacts;
use crate::tokens::Tokens;

/// The word for no modality at all.
const NONE: &str = "none";
/// Objects in a row that are not suitable, after which no more are tried.
const FRUITLESS: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The modality to generate.
    pub(crate) made: &'a str,
    /// Modalities to give, or `none`; empty: all that can be.
    pub(crate) given: &'a [String],
    /// Tokens of the span itself that are given.
    pub(crate) prompt: Option<usize>,
    /// The object whose places those take that have no such span.
    pub(crate) like: Option<&'a str>,
}

/// Modalities to give.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    names: Vec<String>,
    /// Whether an object must have them all.
    all: bool,
}

/// What is given of an object and what is generated.
pub(crate) struct Choice<'a> {
    data: &'a Dataset,
    made: String,
    given: Given,
    prompt: Option<usize>,
    /// The span of an object that has none, where that is known.
    blank: Option<Tokens>,
    masked: bool,
}

/// The objects that are suitable.
#[derive(Default)]
pub(crate) struct Chosen {
    /// What is to be generated.
    pub(crate) wanted: Vec<Wanted>,
    /// Of each whether the span is its own.
    pub(crate) own: Vec<bool>,
    /// What its own observation tells of the span.
    pub(crate) facts: Vec<SpanFacts>,
    /// How often others were passed over, by reason.
    passed_over: BTreeMap<String, usize>,
}

/// A span to generate, whether the object has one, and what its observation tells of it; or why
/// the object is not suitable.
type Want = std::result::Result<(Wanted, bool, SpanFacts), String>;

impl<'a> Choice<'a> {
    /// Checks what is asked against what the model learnt to read.
    ///
    /// # Errors
    /// When a modality is unknown or cannot come before the one to generate, nothing would be
    /// left to generate, or the object to be like has no such span.
    pub(crate) fn new(
        data: &'a Dataset,
        stream: &StreamConfig,
        objective: Objective,
        asked: Asked<'_>,
    ) -> Result<Self> {
        let masked = matches!(objective, Objective::Masked { .. });
        let names: Vec<&str> = data.modalities().keys().map(String::as_str).collect();
        // What is masked is read wherever it stands.
        let before = if masked { None } else { before(stream, &names, asked.made) };
        let given = given(&asked, &names, before.as_deref())?;
        if let (true, Some(before)) = (given.all, &before) {
            tell_left_out(&given.names, before, asked.made);
        }
        let longest = data.model().modalities.get(asked.made).map_or(0, |spec| spec.max_tokens);
        let prompt = asked.prompt.unwrap_or(usize::from(given.names.is_empty()));
        if longest == 1 && prompt > 0 {
            return Err(Error::Misuse(one_token(asked.made, asked.prompt)));
        }
        if prompt >= longest {
            return Err(Error::Misuse(format!(
                "{} has at most {longest} tokens: after a prompt of {prompt} nothing is left to \
                 generate",
                asked.made
            )));
        }
        let blank = match asked.like {
            Some(id) => Some(places_of(data, id, asked.made)?),
            None => data.modalities()[asked.made].blank(),
        };
        let made = asked.made.to_owned();
        Ok(Self { data, made, given, prompt: asked.prompt, blank, masked })
    }

    /// The objects of these ids.
    ///
    /// # Errors
    /// When one is not there or not suitable.
    pub(crate) fn named(&self, ids: &[String]) -> Result<Chosen> {
        let mut chosen = Chosen::default();
        for id in ids {
            let index = find(self.data, "--object", id)?;
            match self.want(index)? {
                Ok(want) => chosen.push(want),
                Err(why) => {
                    let why = self.data.rejected().remove(id).unwrap_or(why);
                    return Err(Error::object(id, why));
                }
            }
        }
        Ok(chosen)
    }

    /// The first `count` suitable objects of the validation split in a shuffled order; where that is
    /// empty of the training split, and where there is none either of the test split.
    ///
    /// # Errors
    /// When none is asked for or suitable, or more cannot be read than the recipe allows.
    pub(crate) fn drawn(&self, count: usize) -> Result<Chosen> {
        if count == 0 {
            return Err(Error::Misuse("--objects 0: must be 1 or more".to_owned()));
        }
        let split = self.drawn_from();
        let (mut tried, mut in_vain, mut ask) = (0, 0, count);
        let mut chosen = Chosen::default();
        'looking: loop {
            let sample = self.data.sample(split, ask);
            for &index in &sample[tried..] {
                if chosen.wanted.len() == count || in_vain == FRUITLESS {
                    break 'looking;
                }
                if crate::stop::asked() {
                    return Err(crate::stop::stopped(
                        "; nothing was written, the same command makes it anew",
                    ));
                }
                tried += 1;
                in_vain += 1;
                match self.want(index)? {
                    Ok(want) => {
                        chosen.push(want);
                        in_vain = 0;
                    }
                    Err(why) => *chosen.passed_over.entry(why).or_default() += 1,
                }
            }
            if sample.len() < ask || chosen.wanted.len() == count {
                break;
            }
            ask = ask.saturating_mul(2);
        }
        if chosen.wanted.is_empty() {
            let reasons = chosen.reasons();
            return Err(Error::Failed(format!("none of {tried} objects can be used: {reasons}")));
        }
        chosen.tell(count, tried);
        Ok(chosen)
    }

    /// The split that objects are drawn from; where it is not the one held out, that is said.
    fn drawn_from(&self) -> Split {
        let splits = [Split::Validation, Split::Train, Split::Test];
        let filled = |split: &Split| !self.data.splits.get(*split).is_empty();
        let split = splits.into_iter().find(filled).unwrap_or(Split::Validation);
        match split {
            Split::Validation => {}
            Split::Train => progress::warn(
                "the validation split is empty: spans are made of objects of the training split, \
                 which the model has learnt from if they were there when it trained; choose others \
                 with --object",
            ),
            Split::Test => progress::warn(
                "the validation split is empty, and so is the training split: spans are made of \
                 objects of the test split",
            ),
        }
        split
    }

    /// What is given of object `index`, and the span to generate.
    fn want(&self, index: u32) -> Result<Want> {
        let Some((observation, row)) = self.data.read(index)? else {
            return Ok(Err("it cannot be read or tokenised".to_owned()));
        };
        Ok(self.cut(&observation, row))
    }

    fn cut(&self, observation: &Observation, mut row: Row) -> Want {
        let (made, names) = (&self.made, &self.given.names);
        let has = |name: &String| row.iter().any(|(n, _)| n == name);
        if let Some(lacking) = names.iter().find(|name| self.given.all && !has(name)) {
            return Err(format!("it has no {lacking}"));
        }
        let own = has(made);
        if !own {
            let blank = self.blank.clone().ok_or_else(|| {
                format!(
                    "it has no {made}, and the recipe does not say how many tokens it would have \
                     and where; --like ID takes those of an object that has one"
                )
            })?;
            row.push((made.clone(), blank));
            row.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.data.arrange(&observation.id, &mut row);
        row.retain(|(name, _)| name == made || names.contains(name));
        let place = row.iter().position(|(name, _)| name == made).unwrap_or(0);
        let (_, span) = row.remove(place);
        let half = || if names.is_empty() { span.len.div_ceil(2) } else { 0 };
        let prompt = self.prompt.unwrap_or_else(half);
        if prompt > 0 && !own {
            return Err(format!("it has no {made} whose first tokens could be given"));
        }
        if row.is_empty() && prompt == 0 {
            return Err(nothing_given(made));
        }
        if span.len == 1 && prompt > 0 {
            return Err(one_token(made, self.prompt));
        }
        if prompt >= span.len {
            let len = span.len;
            return Err(format!("its {made} has {len} tokens, and a prompt of {prompt} is all"));
        }
        let place = if self.masked { place } else { row.len() };
        let facts = self.data.modalities()[made].facts(own.then_some(observation), &span);
        let wanted = Wanted { id: observation.id.clone(), given: row, place, span, prompt };
        Ok((wanted, own, facts))
    }
}

impl Chosen {
    fn push(&mut self, (wanted, own, facts): (Wanted, bool, SpanFacts)) {
        self.wanted.push(wanted);
        self.own.push(own);
        self.facts.push(facts);
    }

    fn reasons(&self) -> String {
        let reasons = self.passed_over.iter().map(|(why, count)| format!("{why} ({count})"));
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Says which objects were passed over, and whether fewer are left than were asked for.
    fn tell(&self, count: usize, tried: usize) {
        let passed_over = tried - self.wanted.len();
        if passed_over > 0 {
            let reasons = self.reasons();
            progress::say(&format!("{passed_over} objects were passed over: {reasons}"));
        }
        if self.wanted.len() < count {
            let found = self.wanted.len();
            progress::say(&format!("{found} of {tried} objects are suitable, not {count}"));
        }
    }
}

/// Why a span of one token cannot be made after a prompt, or of nothing where none is asked for.
fn one_token(made: &str, prompt: Option<usize>) -> String {
    match prompt {
        Some(prompt) => format!(
            "{made} is one token: after a prompt of {prompt} nothing is left to generate; leave \
             --prompt out, and give another modality"
        ),
        None => format!(
            "{made} is one token, which cannot be made from nothing: it has no beginning that could \
             be given; give another modality with --given"
        ),
    }
}

/// Modalities that stand before `made` in every object's sequence; `None`: all do in some.
/// `names` are those of the modalities in alphabetical order.
fn before(stream: &StreamConfig, names: &[&str], made: &str) -> Option<Vec<String>> {
    let order: Vec<&str> = match &stream.order {
        SpanOrder::Word(OrderWord::Shuffled) => return None,
        SpanOrder::Word(OrderWord::Alphabetical) => names.to_vec(),
        SpanOrder::Listed(listed) => listed.iter().map(String::as_str).collect(),
    };
    Some(order.into_iter().take_while(|name| *name != made).map(str::to_owned).collect())
}

/// What is given, where `before` may be (`None`: all others).
fn given(asked: &Asked<'_>, names: &[&str], before: Option<&[String]>) -> Result<Given> {
    let made = asked.made;
    if asked.given.is_empty() {
        let others = || names.iter().filter(|name| **name != made).map(|n| (*n).to_owned());
        let names = before.map_or_else(|| others().collect(), <[String]>::to_vec);
        return Ok(Given { names, all: false });
    }
    if asked.given.iter().any(|name| name == NONE) && !names.contains(&NONE) {
        return match asked.given {
            [_] => Ok(Given { names: Vec::new(), all: true }),
            _ => Err(Error::Misuse(format!("--given {NONE} stands alone, or is left out"))),
        };
    }
    for name in asked.given {
        if !names.contains(&name.as_str()) {
            let list = names.join(", ");
            return Err(Error::Misuse(format!("the run has no modality {name:?}; it has {list}")));
        }
        if name == made {
            let message = format!("{name} cannot be given and made; see --prompt");
            return Err(Error::Misuse(message));
        }
        if let Some(before) = before
            && !before.contains(name)
        {
            let can = match before {
                [] => format!("nothing stands before {made}: give {NONE}"),
                before => format!("what can be given is {}", before.join(", ")),
            };
            return Err(Error::Misuse(format!(
                "{name} stands after {made} in this run's stream.order, so the model never saw \
                 it before {made}; {can}, or train with stream.order = \"shuffled\""
            )));
        }
    }
    Ok(Given { names: asked.given.to_vec(), all: true })
}

/// Says which spans are left out that the model read before, but of objects that lack them.
fn tell_left_out(given: &[String], before: &[String], made: &str) {
    let left_out: Vec<_> = before.iter().filter(|name| !given.contains(name)).cloned().collect();
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        progress::warn(&format!(
            "{names} is not given, which the model read before {made} of every object that has it: \
             what it makes is as good as it learnt from objects that lack it"
        ));
    }
}

/// Number and positions of the tokens that object `id` has in `made`.
fn places_of(data: &Dataset, id: &str, made: &str) -> Result<Tokens> {
    let index = find(data, "--like", id)?;
    let spans = data.read(index)?.map(|(_, row)| row).unwrap_or_default();
    match spans.into_iter().find(|(name, _)| name == made) {
        Some((_, span)) => Ok(known(&span, 0)),
        None => Err(Error::Misuse(format!("--like {id}: it has no {made} that can be read"))),
    }
}

/// The index of the object `id`, which `option` names.
fn find(data: &Dataset, option: &str, id: &str) -> Result<u32> {
    let found = (0..data.len() as u32).find(|&index| data.id(index) == *id);
    found.ok_or_else(|| Error::Misuse(format!("{option} {id}: no object of the data has this id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn asked<'a>(made: &'a str, names: &'a [String]) -> Asked<'a> {
        Asked { made, given: names, prompt: None, like: None }
    }

    fn order(text: &str) -> StreamConfig {
        toml::from_str(&format!("order = {text}")).expect("a stream")
    }

    #[test]
    fn only_what_can_stand_before_a_span_is_given() {
        for (text, made, given_as, expected) in [
            ("'alphabetical'", "b", &[][..], Ok(&["a"][..])),
            ("'alphabetical'", "b", &["a"], Ok(&["a"])),
            ("'alphabetical'", "b", &["c"], Err("stands after b")),
            ("'alphabetical'", "a", &["c"], Err("give none")),
            ("'alphabetical'", "a", &[], Ok(&[])),
            ("['c', 'b', 'a']", "b", &[], Ok(&["c"])),
            ("['c', 'b', 'a']", "a", &["c"], Ok(&["c"])),
            ("['c', 'b', 'a']", "b", &["a"], Err("\"shuffled\"")),
            ("'shuffled'", "b", &[], Ok(&["a", "c"])),
            ("'shuffled'", "a", &["c"], Ok(&["c"])),
            ("'shuffled'", "a", &["none"], Ok(&[])),
            ("'shuffled'", "a", &["none", "b"], Err("stands alone")),
            ("'shuffled'", "a", &["a"], Err("cannot be given and made")),
            ("'shuffled'", "a", &["z"], Err("no modality \"z\"")),
        ] {
            let names: Vec<String> = given_as.iter().map(|name| (*name).to_owned()).collect();
            let before = before(&order(text), &NAMES, made);
            match (given(&asked(made, &names), &NAMES, before.as_deref()), expected) {
                (Ok(given), Ok(expected)) => {
                    assert_eq!(given.names, expected, "{text} {made}");
                    assert_eq!(given.all, !names.is_empty());
                }
                (Err(error), Err(said)) => {
                    assert!(error.to_string().contains(said), "{text} {made}: {error}");
                }
                (found, expected) => panic!("{text} {made}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_modality_may_be_called_none() {
        let names = ["none".to_owned()];
        let given = given(&asked("a", &names), &["a", "none"], None).expect("sound");
        assert_eq!(given.names, ["none"]);
    }
}
