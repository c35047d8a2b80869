//! Light: colours that follow from star formation, distances, K-corrections, responses.
//!
//! Magnitudes are AB, in g, r, z of DECam unless said otherwise.
//!
//! | relation | source |
//! |---|---|
//! | rest-frame g - r and r - z of a specific star-formation rate and a mass | stand-in: a blue and a red sequence joined by a logistic curve, tilted with mass |
//! | mass over r-band light | log M/L = -0.306 + 1.097 (g - r), less 0.15 for a Kroupa initial mass function (Bell et al. 2003, ApJS 149, 289) |
//! | Sun | M_r = 4.65 (Willmer 2018, ApJS 236, 47) |
//! | K-corrections | stand-in, linear in redshift and rest-frame g - r; within 0.03 mag of Chilingarian et al. 2010 (MNRAS 405, 1409) at z = 0.1 in g and r |
//! | distances | flat universe, H0 = 70, matter 0.3: luminosity distance to second order in z with q0 = -0.55 |
//! | BASS and MzLS beside DECam | colour terms by which DESI target selection puts northern fluxes on the southern system, inverted to first order |

use super::BANDS;

/// Hubble distance c / H0, in Mpc.
const HUBBLE_DISTANCE: f64 = 299_792.458 / 70.0;
/// Deceleration parameter of a flat universe with matter density 0.3.
const Q0: f64 = -0.55;
/// Absolute r magnitude of the Sun.
pub(super) const SUN_R: f64 = 4.65;
/// Rest-frame g - r and r - z of the red sequence at 10^10.5 solar masses.
const RED: [f64; 2] = [0.77, 0.64];
/// How much bluer the blue sequence is.
const BLUER: [f64; 2] = [0.38, 0.36];
/// K-corrections in g, r, z over redshift: constant part and slope with rest-frame g - r.
const K_CORRECTION: [[f64; 2]; BANDS] = [[-0.74, 4.5], [-0.76, 2.4], [-0.54, 1.45]];

/// Rest-frame g - r and r - z of stars born at `log_ssfr` (log10 of 1/yr) in a galaxy of
/// `log_mass` (log10 of solar masses).
pub(super) fn rest_colours(log_ssfr: f64, log_mass: f64) -> [f64; 2] {
    let young = youth(log_ssfr);
    let tilt = 0.04 * (log_mass - 10.5);
    std::array::from_fn(|k| RED[k] - BLUER[k] * young + tilt)
}

/// Where between the red (0) and the blue sequence (1) a star-formation rate puts a galaxy.
pub(super) fn youth(log_ssfr: f64) -> f64 {
    logistic((log_ssfr + 10.6) / 0.35)
}

/// 1 / (1 + exp(-x)).
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Absolute magnitudes, rest frame, of `log_mass` (log10 of solar masses) with these colours.
pub(super) fn absolute_magnitudes(log_mass: f64, [g_r, r_z]: [f64; 2]) -> [f64; BANDS] {
    let log_mass_to_light = -0.306 + 1.097 * g_r - 0.15;
    let r = SUN_R - 2.5 * (log_mass - log_mass_to_light);
    [r + g_r, r, r - r_z]
}

/// What has to be added to absolute magnitudes and the distance modulus at redshift `z`.
pub(super) fn k_corrections(z: f64, rest_g_r: f64) -> [f64; BANDS] {
    K_CORRECTION.map(|[constant, slope]| z * (constant + slope * rest_g_r))
}

/// Magnitudes in DECam's g, r, z as BASS (g, r) and MzLS (z) measure them.
pub(super) fn in_north([g, r, z]: [f64; BANDS]) -> [f64; BANDS] {
    [g - 0.004 + 0.059 * (g - r), r + 0.003 + 0.024 * (r - z), z + 0.013 - 0.015 * (r - z)]
}

/// Flux of a magnitude, in nanomaggies.
pub(super) fn flux(magnitude: f64) -> f64 {
    10f64.powf(0.4 * (22.5 - magnitude))
}

/// Magnitude of a flux in nanomaggies.
pub(super) fn magnitude(flux: f64) -> f64 {
    22.5 - 2.5 * flux.log10()
}

/// Luminosity distance, in Mpc.
fn luminosity_distance(z: f64) -> f64 {
    HUBBLE_DISTANCE * (z + (1.0 - Q0) / 2.0 * z * z)
}

/// Distance modulus at a redshift.
pub(super) fn distance_modulus(z: f64) -> f64 {
    25.0 + 5.0 * luminosity_distance(z).log10()
}

/// Redshift of a distance modulus.
pub(super) fn redshift(modulus: f64) -> f64 {
    let distance = 10f64.powf((modulus - 25.0) / 5.0) / HUBBLE_DISTANCE;
    let a = (1.0 - Q0) / 2.0;
    ((1.0 + 4.0 * a * distance).sqrt() - 1.0) / (2.0 * a)
}

/// Angular scale at a redshift.
pub(super) fn kiloparsecs_per_arcsec(z: f64) -> f64 {
    luminosity_distance(z) / (1.0 + z).powi(2) * 1000.0 * (1.0f64 / 3600.0).to_radians()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redshifts_follow_from_distances() {
        // Flat universe, matter 0.3, H0 70: d_L(0.1) = 460.3 Mpc, 1.844 kpc per arcsec.
        let z = redshift(25.0 + 5.0 * 460.3f64.log10());
        assert!((z - 0.1).abs() < 5e-4, "{z}");
        assert!((redshift(distance_modulus(0.2)) - 0.2).abs() < 1e-9);
        assert!((kiloparsecs_per_arcsec(0.1) - 1.844).abs() < 0.01);
    }

    #[test]
    fn colours_redden_as_star_formation_ends() {
        let [young, old] = [-9.8, -12.0].map(|log_ssfr| rest_colours(log_ssfr, 10.5));
        assert!((0.35..0.5).contains(&young[0]) && (0.72..0.8).contains(&old[0]));
        assert!(old[1] - young[1] > 0.25);
        // A galaxy of the knee of the mass function is about as bright as that of light.
        let [_, r, _] = absolute_magnitudes(10.66, rest_colours(-11.5, 10.66));
        assert!((-21.5..-20.8).contains(&r), "{r}");
    }

    /// Chilingarian et al. 2010 at z = 0.1, for observed g - r of 0.45 and 0.95: K_g 0.094
    /// and 0.28, K_r 0.014 and 0.114.
    #[test]
    fn k_corrections_are_near_the_published_ones() {
        for (rest, published) in [(0.37, [0.094, 0.014]), (0.78, [0.28, 0.114])] {
            let ours = k_corrections(0.1, rest);
            for band in 0..2 {
                assert!((ours[band] - published[band]).abs() < 0.03, "{rest} {ours:?}");
            }
        }
    }

    #[test]
    fn telescopes_differ_by_their_colour_terms() {
        // DESI's terms back to the south: g + 0.004 - 0.059 (g - r), and so on.
        let south = [17.8, 17.0, 16.4];
        let [g, r, z] = in_north(south);
        let back =
            [g + 0.004 - 0.059 * (g - r), r - 0.003 - 0.024 * (r - z), z - 0.013 + 0.015 * (r - z)];
        for (back, south) in back.iter().zip(south) {
            assert!((back - south).abs() < 0.003);
        }
    }
}
