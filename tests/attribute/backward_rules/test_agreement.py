"""Agreement with Captum 0.9.0 (DeepLIFT, guided backpropagation, deconvnet) and zennit 1.0.0 (LRP).

They ran the same network in double precision. Of zennit: average pooling had its rule "Norm", stabilizers were 1e-15.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import rules
from tests.attribute.backward_rules.programs import convolutional, wave

pytestmark = pytest.mark.usefixtures("x64")


def summary(values):
    """Four of the values, the sum for either example, and the sum of all sizes."""
    some = values[0, 0, 0, 0], values[0, 1, 2, 1], values[1, 2, 1, 0], values[1, 3, 3, 1]
    return [float(x) for x in (*some, values[0].sum(), values[1].sum(), abs(values).sum())]


def points():
    return wave(2, 4, 4, 2, phase=0.3), wave(2, 4, 4, 2, phase=2.0) * 0.5


DEEPLIFT = {
    "relu": (
        jax.nn.relu,
        [
            -0.0377000752818,
            -0.00117260073994,
            -0.00458522547909,
            -0.0334693451412,
            -0.618000205269,
            3.06067724502,
            9.29467926597,
        ],
    ),
    "tanh": (
        jnp.tanh,
        [
            -0.0439561925178,
            0.00322576410121,
            0.00141920008121,
            -0.0208860071993,
            1.70886421315,
            0.318701775457,
            7.70290462831,
        ],
    ),
    "sigmoid": (
        jax.nn.sigmoid,
        [
            -0.00492709233548,
            0.000224773500609,
            0.000272032159704,
            -0.00235528888753,
            0.18875851773,
            0.0521956524415,
            0.912545588327,
        ],
    ),
    "softplus": (
        jax.nn.softplus,
        [
            -0.023888784205,
            -0.00248205455633,
            -0.00102680870736,
            -0.0174361660996,
            -0.36198652922,
            2.08645989846,
            7.73940960284,
        ],
    ),
    "elu": (
        jax.nn.elu,
        [
            -0.0639778677435,
            -0.000268273211594,
            -0.00256580916643,
            -0.0398709651518,
            0.124770278661,
            3.6858337894,
            14.3008539902,
        ],
    ),
    "leaky": (
        jax.nn.leaky_relu,
        [
            -0.0380494075858,
            -0.0011925964966,
            -0.00465162751113,
            -0.0336036200139,
            -0.602643806714,
            3.05561502103,
            9.38997936024,
        ],
    ),
}


@pytest.mark.parametrize("name", DEEPLIFT)
def test_deeplift(name):
    activation, expected = DEEPLIFT[name]
    x, baseline = points()
    found = attribute.deeplift(convolutional(activation), x, 1, baseline=baseline)
    np.testing.assert_allclose(summary(found.values), expected, rtol=1e-10, atol=1e-13)


def test_guided_backprop_and_deconvnet():
    network, (x, _) = convolutional(jax.nn.relu, pool="maximum"), points()
    guided, any_unit = attribute.guided_backprop(network, x, 1), attribute.deconvnet(network, x, 1)
    expected = [
        0.039707680028,
        0.0565382030747,
        -0.288853334522,
        -0.960768766605,
        -0.52665812707,
        6.37816705384,
        34.1256327559,
    ]
    np.testing.assert_allclose(summary(guided.values), expected, rtol=1e-10)
    expected = [
        0.786247837304,
        -0.867062986821,
        -0.0943261106138,
        -0.831039306267,
        -4.73627592933,
        5.82576765438,
        56.4455447045,
    ]
    np.testing.assert_allclose(summary(any_unit.values), expected, rtol=1e-10)


RELEVANCE = {
    ("zero", True): (
        rules.zero(),
        [
            0.0544675251622,
            -0.0805323252805,
            0.00463153124724,
            -0.10404300678,
            -0.836641422259,
            2.98651375957,
            8.22599329621,
        ],
    ),
    ("zero", False): (
        rules.zero(),
        [
            0.0544675251622,
            -0.0805323252805,
            0.00463153124724,
            -0.10404300678,
            -0.836641422259,
            2.98651375957,
            8.22599329621,
        ],
    ),
    ("eps", True): (
        rules.epsilon(0.01),
        [
            0.0525180798059,
            -0.0765102652922,
            0.00506691926757,
            -0.100111514507,
            -0.820707953101,
            2.94371769039,
            8.05890212527,
        ],
    ),
    ("eps", False): (
        rules.epsilon(0.01),
        [
            0.0522540379112,
            -0.0748844659416,
            0.00541405122383,
            -0.0985328182998,
            -0.81507268337,
            2.95485988015,
            8.04762107247,
        ],
    ),
    ("gamma", True): (
        rules.gamma(0.25),
        [
            0.000267873490137,
            -0.0171017978469,
            0.044217497195,
            -0.0465503660683,
            -1.00069796196,
            2.53763002068,
            4.48720837823,
        ],
    ),
    ("gamma", False): (
        rules.gamma(0.25),
        [
            0.00451707933078,
            -0.0155987185378,
            0.0546844980138,
            -0.044973610528,
            -0.836641422259,
            2.98651375957,
            4.79581980161,
        ],
    ),
    ("zplus", True): (
        rules.z_plus(),
        [
            -0.00187382142913,
            -0.00925045998707,
            0.0602330013659,
            0.00395676384678,
            -0.383662386723,
            2.22176312784,
            2.60542551456,
        ],
    ),
    ("zplus", False): (
        rules.z_plus(),
        [
            -0.00409472527662,
            -0.0200773081636,
            0.0816836522079,
            0.00588766007389,
            -0.836641422259,
            2.98651375957,
            3.82315518183,
        ],
    ),
    ("zbox", True): (
        rules.composite(rules.z_plus(), first=rules.z_box(-1.0, 1.0)),
        [
            -0.00328163723638,
            -0.0170225599771,
            0.0726552340411,
            0.0130303181943,
            -0.397899536159,
            2.25208265053,
            2.64998218668,
        ],
    ),
    ("flat", True): (
        rules.composite(rules.z_plus(), first=rules.flat()),
        [
            -0.00552849444217,
            -0.0202890688022,
            0.092988072085,
            0.0382389421652,
            -0.397899536159,
            2.25208265053,
            2.64998218668,
        ],
    ),
}


@pytest.mark.parametrize("name, bias", RELEVANCE)
def test_lrp(name, bias):
    rule, expected = RELEVANCE[name, bias]
    found = attribute.lrp(convolutional(jax.nn.relu, bias=bias), points()[0], 1, rules=rule)
    np.testing.assert_allclose(summary(found.values), expected, rtol=1e-9, atol=1e-13)


def test_alpha_beta_where_each_unit_has_terms_of_both_signs():
    """The second example has a unit without negative terms: zennit gives it twice its relevance."""
    found = attribute.lrp(convolutional(jax.nn.relu), points()[0], 1, rules=rules.alpha_beta(2, 1))
    theirs = [
        0.0236967150515,
        -0.0240397878189,
        0.129548683077,
        -0.0354371420198,
        0.155590174775,
        6.38513420501,
        12.1110802163,
    ]
    ours = summary(found.values)
    np.testing.assert_allclose([*ours[:2], ours[4]], [*theirs[:2], theirs[4]], rtol=1e-10)
    np.testing.assert_allclose(2 * ours[5], theirs[5], rtol=1e-10)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)
