//! What an object's own spectrum tells of its tokens beyond them.

use astropt_core::observation::{Field, Observation};
use astropt_core::seam::SpanFacts;
use astropt_core::tokens::Tokens;

use super::Spectrum;
use super::config::{PositionKind, Tail, WavelengthAs};
use crate::fields;

/// The column of the mean wavelengths of windows.
const MEAN_WAVELENGTH: &str = "mean_wavelength";

impl Spectrum {
    pub(super) fn facts_of(&self, own: Option<&Observation>, tokens: &Tokens) -> SpanFacts {
        let config = &self.config;
        let mut facts = SpanFacts { padding: self.padding(own, tokens), ..SpanFacts::default() };
        let unit = |name: &String| Some((name.clone(), own?.fields.get(name)?.unit.clone()?));
        if tokens.affine.is_empty() && self.has_units(tokens) {
            facts.units.extend(unit(&config.flux));
        }
        if config.wavelength_as == WavelengthAs::Log10 {
            let of = config.wavelength_unit.iter().map(|unit| format!(" in {unit}"));
            let note = format!("log10 of the wavelength{}", of.collect::<String>());
            facts.notes.insert(config.wavelength.clone(), note);
        } else if !config.grid.is_whole() {
            // A grid that is declared whole is the recipe's, whatever the file has.
            let own = unit(&config.wavelength);
            facts.units.extend(own.clone().map(|(_, unit)| (MEAN_WAVELENGTH.to_owned(), unit)));
            facts.units.extend(own);
        }
        facts
    }

    /// The unit of the numbers in the field of wavelengths: a logarithm has none.
    pub(super) fn unit_of_field(&self) -> Option<&str> {
        let config = &self.config;
        config.wavelength_unit.as_deref().filter(|_| config.wavelength_as == WavelengthAs::Linear)
    }

    /// Samples at the end of `tokens` that fill up the last window of `own` and that its places do
    /// not tell; `None`: not known.
    fn padding(&self, own: Option<&Observation>, tokens: &Tokens) -> Option<usize> {
        let (config, w) = (&self.config, self.config.window);
        if config.tail == Tail::Drop || config.positions == PositionKind::Wavelength {
            return Some(0);
        }
        let samples = self.read(own?).ok()??;
        let len = samples.flux.len();
        let (last, pads) = (len / w, (w - len % w) % w);
        if pads == 0 {
            return Some(0);
        }
        // Where that window is left out, the last token is a whole one.
        let is_last = if config.positions == PositionKind::Index {
            tokens.indices.last() == Some(&(last as u32))
        } else {
            config.positions(&samples.wavelengths?, &[last]).ok()?.last() == tokens.positions.last()
        };
        Some(if is_last { pads } else { 0 })
    }

    /// Where the samples of `tokens` are, as a column that tells it without wavelengths: the
    /// number of each in the spectrum, or the mean wavelength of its window.
    pub(super) fn places(&self, tokens: &Tokens) -> (&'static str, Field) {
        let (config, w) = (&self.config, self.config.window);
        if config.positions == PositionKind::Index {
            let first = tokens.indices.iter().map(|&k| i64::from(k) * w as i64);
            let numbers = first.flat_map(|first| first..first + w as i64);
            return ("sample", fields::whole(numbers.collect()));
        }
        let means = tokens.positions.iter().filter_map(|&place| config.wavelength_at(place));
        let means = means.flat_map(|mean| std::iter::repeat_n(mean, w)).collect();
        (MEAN_WAVELENGTH, fields::doubles(means, config.wavelength_unit.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use astropt_core::observation::{Array, Data};
    use astropt_core::seam::{Modality, ModalityConfig};

    use super::*;
    use crate::spectrum::SpectrumConfig;

    fn build(text: &str) -> Box<dyn Modality> {
        let table = format!("samples = 14\nwindow = 4\nbad = 'drop-window'\n{text}");
        let table = table.parse().expect("TOML");
        let config: SpectrumConfig = astropt_core::seam::parse_config(table).expect("a table");
        config.build().expect("sound")
    }

    /// Fourteen samples from 4000 on in steps of 2, those of `bad` not finite.
    fn spectrum(bad: &[usize]) -> Observation {
        let flux = |i: usize| if bad.contains(&i) { f32::NAN } else { i as f32 };
        let wavelengths = (0..14).map(|i| 4000.0 + 2.0 * i as f64).collect();
        let mut own = Observation { id: "x".into(), ..Observation::default() };
        let mut put = |name: &str, field| own.fields.insert(name.to_owned(), field);
        put("flux", fields::floats((0..14).map(flux).collect(), Some("Jy")));
        put("wavelength", fields::doubles(wavelengths, Some("nm")));
        own
    }

    const MEAN: &str = "positions = 'mean-wavelength'\ngrid.linear.step = 2.0\n\
                        wavelength_scale.linear = { offset = 4000.0, scale = 10.0 }\n";

    #[test]
    fn padding_is_known_whichever_windows_are_left_out() {
        let whole = MEAN.replace("linear.step = 2.0", "linear = { start = 4000.0, step = 2.0 }");
        for table in ["positions = 'index'", MEAN, &whole] {
            let modality = build(table);
            for (bad, padding) in [(&[][..], 2), (&[5], 2), (&[0, 5], 2), (&[13], 0)] {
                let own = spectrum(bad);
                let tokens = modality.tokenise(&own).expect("sound").expect("a spectrum");
                let facts = modality.facts(Some(&own), &tokens);
                assert_eq!(facts.padding, Some(padding), "{table} {bad:?}");
                let whole = modality.preview(&tokens).expect("sound");
                let cut = modality.preview_of(&tokens, &facts).expect("sound");
                assert_eq!(whole == cut, padding == 0, "{table} {bad:?}");
                assert_eq!(modality.facts(None, &tokens).padding, None);
            }
            let dropped = build(&format!("{table}\ntail = 'drop'"));
            let tokens = dropped.tokenise(&spectrum(&[])).expect("sound").expect("a spectrum");
            assert_eq!(dropped.facts(None, &tokens).padding, Some(0));
        }
    }

    #[test]
    fn samples_are_numbered_where_no_wavelength_tells_them() {
        let modality = build("positions = 'index'");
        let tokens = modality.tokenise(&spectrum(&[5])).expect("sound").expect("a spectrum");
        let told = modality.reconstruct(&tokens).expect("sound").expect("fields");
        let expected = vec![0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(told.fields["sample"].array.data, Data::I64(expected));
        let mean = build(&MEAN.replace("grid.linear.step = 2.0", "grid = 'field'"));
        let tokens = mean.tokenise(&spectrum(&[])).expect("sound").expect("a spectrum");
        let told = mean.reconstruct(&tokens).expect("sound").expect("fields");
        let Array { shape, data } = &told.fields["mean_wavelength"].array;
        assert_eq!(shape, &[16]);
        assert!((data.to_f64()[4] - 4011.0).abs() < 1e-3, "{data:?}");
    }

    #[test]
    fn units_that_only_the_data_state_are_told() {
        // Of an uneven grid there are means of windows alone, in the unit of what they are of.
        let uneven = build(&MEAN.replace("grid.linear.step = 2.0", "grid = 'field'"));
        let own = spectrum(&[]);
        let tokens = uneven.tokenise(&own).expect("sound").expect("a spectrum");
        let told = uneven.reconstruct(&tokens).expect("sound").expect("fields");
        assert!(told.fields["mean_wavelength"].unit.is_none(), "the recipe states none");
        assert_eq!(uneven.facts(Some(&own), &tokens).units["mean_wavelength"], "nm");
        let units = |table: &str| {
            let (modality, own) = (build(table), spectrum(&[]));
            let tokens = modality.tokenise(&own).expect("sound").expect("a spectrum");
            let facts = modality.facts(Some(&own), &tokens);
            let unit = |name: &str| facts.units.get(name).cloned().unwrap_or_default();
            (unit("flux"), unit("wavelength"))
        };
        let none = format!("{MEAN}standardise = 'none'");
        assert_eq!(units(&none), ("Jy".to_owned(), "nm".to_owned()));
        // Standardised fluxes have none.
        assert_eq!(units(MEAN), (String::new(), "nm".to_owned()));
    }

    #[test]
    fn a_logarithm_has_no_unit_and_says_of_what_it_is() {
        let modality = build(
            "wavelength_as = 'log10'\nwavelength_unit = 'Angstrom'\npositions = 'wavelength'\n\
             wavelength_scale.log10 = { offset = 3.6, scale = 0.1 }",
        );
        let mut own = spectrum(&[]);
        let logs = (0..14).map(|i| 3.6 + 1e-4 * f64::from(i)).collect();
        own.fields.insert("wavelength".into(), fields::doubles(logs, None));
        let tokens = modality.tokenise(&own).expect("sound").expect("a spectrum");
        let told = modality.reconstruct(&tokens).expect("sound").expect("fields");
        assert_eq!(told.fields["wavelength"].unit, None);
        let notes = modality.facts(Some(&own), &tokens).notes;
        assert_eq!(notes["wavelength"], "log10 of the wavelength in Angstrom");
    }
}
