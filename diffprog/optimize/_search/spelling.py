"""What people call an argument who come from other libraries: SciPy, JAXopt, Optimistix, PyTorch."""

from diffprog._util.spelling import by_word

TOLERANCE = "a tolerance belongs to its optimizer, as in lbfgs(...): see its arguments"
DERIVATIVE = "derivatives are computed: leave it out"

MEANT = by_word(
    {
        "fun fn f func loss objective loss_fn": {
            "function": "what is minimized is function=",
            "residuals": "what is to be small is residuals=",
        },
        "x0 y0 init init_params params initial_parameters start x": {
            "parameters": "where to begin is parameters=",
        },
        "method solver algorithm optim opt": {"optimizer": "the method is optimizer=, as in optimizer=lbfgs()"},
        "maxiter max_iter max_iterations maxfev max_nfev num_steps steps n_iter iterations niter max_evaluations": {
            "max_steps": "the number of steps is max_steps=; the result tells what was evaluated"
        },
        "tol gtol ftol xtol rtol atol eps": {"optimizer": TOLERANCE},
        "jac hess hessp grad value_and_grad": {"optimizer": DERIVATIVE},
        "args kwargs": {"function": "the function closes over what else it reads", "residuals": "it closes over it"},
        "options": {"optimizer": "options are arguments of the optimizer, as in lbfgs(...)"},
        "constraints project projection": {
            "bounds": "a box is bounds=(lower, upper); for other sets, change variables or add a penalty"
        },
        "lower upper lb ub": {"bounds": "a box is bounds=(lower, upper)"},
        "seed rng random_state": {"key": "random draws come from key=jax.random.key(0)"},
        "disp verbose": {"progress": "a progress bar has its caption in progress="},
        "return_all path callback": {"keeps_path": "parameters after each step are kept with keeps_path=True"},
        "selector where node": {"at": "a value inside the program is selected by at="},
    }
)
