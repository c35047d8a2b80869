//! Units in the letters of FITS (the FITS Standard 4.0, 2018, section 4.3): printable ASCII, and
//! no factor but a power of ten.

/// What FITS has for a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FitsUnit {
    /// The unit; empty where it is the number 1.
    pub(super) text: String,
    /// Why readers may not know it.
    pub(super) odd: Option<&'static str>,
}

/// `unit` in FITS's letters: `µJy` becomes `uJy`, `Å` `Angstrom`, a raised digit a plain one, and
/// the factor `1e-17` `10**-17`. What FITS has no way for stays, but for letters, which become `?`.
pub(super) fn in_fits(unit: &str) -> FitsUnit {
    let spelt: String = unit.trim().chars().map(spelt).collect();
    let (text, plain) = with_power(&spelt);
    let odd = if !plain {
        Some("FITS has no factors in units but powers of ten")
    } else if !text.is_ascii() {
        Some("FITS has no such letters")
    } else {
        None
    };
    FitsUnit { text: ascii(&text), odd }
}

/// FITS text is printable ASCII; what is not becomes a question mark.
pub(super) fn ascii(words: &str) -> String {
    words.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

fn spelt(letter: char) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    match letter {
        '\u{b5}' | '\u{3bc}' => "u".to_owned(),
        '\u{c5}' | '\u{212b}' => "Angstrom".to_owned(),
        '°' => "deg".to_owned(),
        '⁻' | '−' => "-".to_owned(),
        '·' | '⋅' => ".".to_owned(),
        _ => match RAISED.iter().position(|&raised| raised == letter) {
            Some(digit) => digit.to_string(),
            None => letter.to_string(),
        },
    }
}

/// The unit with a factor that leads it as a power of ten, and whether FITS can say it so.
fn with_power(unit: &str) -> (String, bool) {
    let Some((number, rest)) = leading_number(unit) else { return (unit.to_owned(), true) };
    let Some(power) = power_of_ten(number) else { return (unit.to_owned(), false) };
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['*', '.']).unwrap_or(rest).trim_start();
    match power {
        0 => (rest.to_owned(), true),
        _ => (format!("10**{power} {rest}").trim_end().to_owned(), true),
    }
}

/// A number that leads `unit` and is no power as FITS writes it (`10**k`, `10^k`, `10-k`), and the rest.
fn leading_number(unit: &str) -> Option<(&str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mantissa = unit.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let exponent = unit[mantissa..].strip_prefix(['e', 'E']).map_or(0, |power| {
        let sign = usize::from(power.starts_with(['+', '-']));
        match digits(&power[sign..]) {
            0 => 0,
            count => 1 + sign + count,
        }
    });
    let (number, rest) = unit.split_at(mantissa + exponent);
    let power = number == "10" && (rest.starts_with("**") || rest.starts_with(['^', '+', '-']));
    (mantissa > 0 && !power).then_some((number, rest))
}

fn power_of_ten(number: &str) -> Option<i32> {
    let number: f64 = number.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0)?;
    let power = number.log10().round() as i32;
    let exact: f64 = format!("1e{power}").parse().ok()?;
    (exact == number).then_some(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_spelt_as_fits_has_them() {
        for (unit, expected) in [
            ("Jy", "Jy"),
            ("µJy", "uJy"),
            ("μJy", "uJy"),
            ("Å", "Angstrom"),
            ("erg s⁻¹ cm⁻² Å⁻¹", "erg s-1 cm-2 Angstrom-1"),
            ("1e-17 erg/(s cm2 Angstrom)", "10**-17 erg/(s cm2 Angstrom)"),
            ("1.0E-17*erg/s", "10**-17 erg/s"),
            ("1000 Jy", "10**3 Jy"),
            ("10⁻¹⁷ erg/s", "10-17 erg/s"),
            ("10**-17 erg/s", "10**-17 erg/s"),
            ("10^-17 erg/s", "10^-17 erg/s"),
            ("10-17 erg/s", "10-17 erg/s"),
            ("1 Jy", "Jy"),
            ("1/s", "/s"),
            ("1", ""),
        ] {
            let found = in_fits(unit);
            assert_eq!((found.text.as_str(), found.odd), (expected, None), "{unit}");
        }
    }

    #[test]
    fn what_fits_cannot_say_stays_and_is_told() {
        for (unit, text) in [("3.631e-6 Jy", "3.631e-6 Jy"), ("L☉", "L?"), ("1.2.3 m", "1.2.3 m")]
        {
            let found = in_fits(unit);
            assert_eq!(found.text, text);
            assert!(found.odd.is_some(), "{unit}");
        }
    }
}
