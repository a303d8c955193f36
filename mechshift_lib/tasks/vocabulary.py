"""Word lists of the four tasks, and the split that keeps some combinations out of training."""

from __future__ import annotations

import hashlib

#: One example in this many combinations is held out of training.
HELD_OUT_ONE_IN = 5

NAMES = (
    "Mary John Tom James Dan Sarah Anna Michael David Robert Paul Mark Kate Laura Peter Alice "
    "Emma Jack Adam Lisa Simon Frank Jane Rachel Steven Kevin Jason Maria Brian Amy Julia Martin "
    "Henry Rose Grace Ben George Susan Thomas Charles"
).split()

PLACES = (
    "store park school office station garden market library kitchen hospital restaurant beach"
).split()

OBJECTS = "ring book drink bone letter ball gift ticket cake watch coat basket".split()

#: Subjects of a Greater-Than sentence: things that last from one year to another.
EVENTS = (
    "war trial voyage siege strike tour plan project reign conflict expedition campaign alliance "
    "occupation construction dynasty"
).split()

#: Centuries of a Greater-Than sentence (the first two digits of both years).
CENTURIES = ("11", "12", "13", "14", "15", "16", "17", "18")

#: Filler of an infilling example -> what its owner wants to do with it.
PURPOSES = {
    "knife": "cut the bread",
    "pen": "write a letter",
    "key": "open the door",
    "broom": "sweep the floor",
    "hammer": "hit the nail",
    "camera": "take a photo",
    "boat": "cross the river",
    "ladder": "reach the roof",
    "lamp": "light the room",
    "needle": "sew the button",
    "towel": "dry the dishes",
    "map": "find the way",
    "bucket": "carry the water",
    "drum": "make some music",
    "bed": "sleep at night",
    "clock": "tell the time",
}

#: More things and what they are for, only asked of models that know them without being taught.
KNOWN_PURPOSES = {
    "knife": "cut the bread",
    "pen": "write a letter",
    "broom": "sweep the floor",
    "hammer": "drive a nail",
    "camera": "take a photo",
    "ladder": "climb on the roof",
    "needle": "sew a button",
    "bucket": "carry water",
    "drum": "beat the rhythm",
    "bed": "sleep at night",
    "clock": "tell the time",
    "rope": "tie the horse",
    "cup": "drink the tea",
    "saw": "cut the tree",
    "ball": "play football",
    "brush": "paint the wall",
    "oven": "bake the bread",
    "wheel": "steer the car",
    "comb": "do the hair",
    "shovel": "dig in the snow",
    "fork": "eat the pasta",
}

#: First word of an infilling filler -> what has that colour.
COLORS = {
    "white": "snow",
    "green": "grass",
    "red": "blood",
    "black": "coal",
    "blue": "the sky",
    "yellow": "lemons",
    "brown": "chocolate",
    "pink": "pigs",
    "gray": "elephants",
    "purple": "plums",
}

#: Adjectives, verbs and nouns that only occur in filler text.
ADJECTIVES = "big small old new long short good bad warm cold quick slow".split()
ANIMALS = "dog cat horse bird fish cow sheep fox".split()
VERBS = "saw met called helped followed liked".split()


def held_out(*parts: object) -> bool:
    """Is this combination of words or numbers kept out of training?

    A stable hash decides (not Python's, which changes from run to run), so that training texts
    and examples agree for ever, on every machine.
    """
    text = "|".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_ONE_IN == 0
