"""`Clip`: an image tower and a text tower whose vectors of length 1 lie in one space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._jax_internals import Tracer
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog.clip._preprocessing import cropped
from diffprog.clip._text import BATCH, filled
from diffprog.clip._tokenizer import checked_texts
from diffprog.clip._transformer import product, unit
from diffprog.clip._vit import EMBEDDING
from diffprog.graph import tap
from diffprog.models import Model

TEMPLATE = "a photo of a {}"
Images = ArrayLike | Sequence[ArrayLike]
Templates = str | Sequence[str]


@dataclass(frozen=True, eq=False)
class Clip:
    """Two networks that were trained so that a picture's vector is near that of a text that describes it.

    The image tower is a `Model` with named layers, whose last one is the vector: whatever takes a model takes it, and
    `classifier` makes it one with logits of names.

    Attributes:
      name: For messages and captions.
      image: The image tower; it takes pictures of any size, of which it sees the central square.
      text: The text tower: a list of texts to vectors.
      scale: What cosines are multiplied by for logits; 100 in OpenAI's networks.
      description: What the file was and what is in it.
    """

    name: str
    image: Model
    text: Callable[..., jax.Array]
    scale: float
    description: str = field(default="", repr=False)

    def encode_images(self, images: Images) -> jax.Array:
        """Compute the vectors of pictures, compiled, in batches of one shape; differentiable in the pictures.

        The short side is resized to the tower's size, bicubically with antialiasing, and the central square is taken.

        Args:
          images: Floats (n, height, width, 3) in [0, 1], or a list of arrays (height, width, 3) of any sizes.

        Returns:
          float32 (n, dimensions), each of length 1.

        Raises:
          ValueError: The images have another type, rank or range.
        """
        if isinstance(images, list | tuple):
            if not images:
                raise ValueError(
                    "images must be an array (n, height, width, 3) or a list of arrays; found an empty list"
                )
            if any(isinstance(image, Tracer) for image in images):
                return jnp.concatenate([self.encode_images(jnp.asarray(image)[None]) for image in images])
            squares = [self._square(np.asarray(image)[None]) for image in images]
            return self._encoded(np.concatenate(squares))
        if isinstance(images, Tracer):
            return self.image(images)
        return self._encoded(self._square(np.asarray(images)))

    def _square(self, images):
        return cropped(np.asarray(self.image.check_images(images)), self.image.shape[0])

    def _encoded(self, squares):
        batches = [squares[start : start + BATCH] for start in range(0, len(squares), BATCH)]
        with jax.ensure_compile_time_eval():  # these pictures are known, whatever is traced around this
            vectors = [np.asarray(self.image(filled(batch)))[: len(batch)] for batch in batches]
        return jnp.asarray(np.concatenate(vectors)) if vectors else jnp.zeros((0, self.dimensions), jnp.float32)

    def encode_texts(self, texts: Sequence[str] | str, *, truncate: bool = False) -> jax.Array:
        """Compute the vectors of texts, compiled, in batches of similar lengths.

        Args:
          texts: A list of texts, or one text.
          truncate: Cut texts that are too long, with a warning; otherwise they are an error.

        Returns:
          float32 (n, dimensions), each of length 1.

        Raises:
          ValueError: It is no list of texts, or a text is too long.
        """
        return self.text(texts, truncate=truncate)

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return self.image.layers[EMBEDDING][0]

    def similarity(self, images: Images, texts: Sequence[str] | str | ArrayLike) -> jax.Array:
        """Compute how well texts fit pictures: the cosine of the angle between their vectors.

        Args:
          images: As for `encode_images`, or vectors (n, dimensions), in which it is differentiable too.
          texts: A list of m texts, or vectors (m, dimensions), of texts or of pictures.

        Returns:
          float32 (n, m) in [-1, 1].

        Raises:
          ValueError: Images, texts or vectors are unsuitable.
        """
        return _cosines(self._vectors_of_images(images), self._vectors_of_texts(texts))

    def _vectors_of_images(self, images):
        return self._checked(images, "images") if _are_vectors(images) else self.encode_images(images)

    def _vectors_of_texts(self, texts):
        return self._checked(texts, "texts") if _are_vectors(texts) else self.encode_texts(texts)

    def _checked(self, vectors, name):
        """Check vectors, and bring them to length 1."""
        vectors = vectors if isinstance(vectors, Tracer) else np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions or not jnp.issubdtype(vectors.dtype, jnp.floating):
            wanted = f"floats of shape (n, {self.dimensions})"
            raise ValueError(f"{name} as vectors are {wanted}; found {vectors.dtype} of shape {vectors.shape}")
        return unit(jnp.asarray(vectors, jnp.float32))

    def label_vectors(self, names: Sequence[str], template: Templates = TEMPLATE) -> jax.Array:
        """Compute a vector for each name of a class, in a sentence or as the mean over several.

        Args:
          names: The classes' names.
          template: A sentence with {} for the name, or several.

        Returns:
          float32 (classes, dimensions), each of length 1.

        Raises:
          ValueError: There is no name, or a template has no {}.
        """
        names, templates = checked_texts(names), [template] if isinstance(template, str) else list(template)
        if not templates or not all(isinstance(sentence, str) and "{}" in sentence for sentence in templates):
            raise ValueError(f"template must be a sentence with {{}} for the name, or several; found {template!r}")
        vectors = self.encode_texts([sentence.replace("{}", name) for sentence in templates for name in names])
        return unit(vectors.reshape(len(templates), len(names), -1).mean(axis=0))

    def classify(self, images: Images, names: Sequence[str], template: Templates = TEMPLATE) -> jax.Array:
        """Compute how probable each of some names is for pictures, without any training on them.

        Args:
          images: As for `encode_images`, or vectors; it is differentiable in both.
          names: The classes' names: one of them is right, as the probabilities sum to 1.
          template: A sentence with {} for the name, or several, whose vectors are averaged.

        Returns:
          float32 (n, classes).

        Raises:
          ValueError: Images, names or template are unsuitable.
        """
        cosines = _cosines(self._vectors_of_images(images), self.label_vectors(names, template))
        return jax.nn.softmax(self.scale * cosines, axis=-1)

    def classifier(self, names: Sequence[str], template: Templates = TEMPLATE) -> Model:
        """Make a network with a logit for each name, to be attacked, looked into and explained as any other.

        Args:
          names: The classes' names, which are its labels.
          template: A sentence with {} for the name, or several, whose vectors are averaged.

        Returns:
          A `Model` with the layers of the image tower, and "logits".

        Raises:
          ValueError: Names or template are unsuitable.
        """
        vectors = self.label_vectors(names, template)
        return Model(
            f"{self.name} of {len(vectors)} names",
            _Classifier(self.image, self.scale),
            {"image": self.image.parameters, "names": vectors},
            tuple(checked_texts(names)),
            self.image.size,
            self.image.min_size,
            self.image.channels,
        )

    def search(self, query: str | ArrayLike, embeddings: ArrayLike, k: int = 10) -> list[tuple[int, float]]:
        """Find the vectors that are nearest to a text or a picture.

        Args:
          query: A text, a picture (height, width, 3), or a vector (dimensions,).
          embeddings: Vectors (n, dimensions), as of `encode_images` or `encode_texts`.
          k: How many; all of them if there are not so many.

        Returns:
          (index, cosine) of each, best first.

        Raises:
          ValueError: The query is neither, or the vectors are of another shape.
        """
        k = check_count(k, "k")
        if isinstance(query, str):
            vector = self.encode_texts([query])
        elif np.ndim(query) == 3:
            vector = self.encode_images(np.asarray(query)[None])
        elif np.ndim(query) == 1:
            vector = self._checked(np.asarray(query)[None], "the query")
        else:
            raise ValueError(f"query must be a text, a picture or a vector; found an array of shape {np.shape(query)}")
        cosines = np.asarray(_cosines(vector, self._checked(embeddings, "embeddings")))[0]
        best = np.argsort(-cosines, kind="stable")[:k]
        return [(int(index), float(cosines[index])) for index in best]


@dataclass(frozen=True, eq=False)
class _Classifier:
    """An image tower and the vectors of names as the network of a `Model`."""

    image: Model
    scale: float

    @property
    def reads_outside(self) -> bool:
        return self.image.reads_outside

    def __call__(self, parameters: Any, images: jax.Array):
        value = None
        for layer, value in self.image.network(parameters["image"], images):
            yield layer, value
        yield "logits", self._logits(value, parameters["names"])

    @own_promotion()
    def _logits(self, vectors, names):
        return tap(self.scale * _cosines(vectors, names), "logits")


@own_promotion()
def _cosines(first, second):
    return product("nd,md->nm", first, second)


def _are_vectors(values):
    return not isinstance(values, str | list | tuple) and np.ndim(values) == 2
