"""Change a photograph by less than an eye can see, until a network takes it for something else.

    python -m demos.adversarial_attack
    python -m demos.adversarial_attack my_photo.jpg --target volcano --norm l2 --epsilon 1.5 --survive
    python -m demos.adversarial_attack --attack ddn --target none
    python -m demos.adversarial_attack --evaluate digits --network digits_robust --attack pgd,square --curve

The command `diffprog attack`, run from a clone.
"""

from diffprog.cli._attack import main

if __name__ == "__main__":
    main(prog="python -m demos.adversarial_attack")
