"""Two long readings, synthesised: over 900 words each in several voices, with pauses, numbers and repeats.

Whisper's quality and the commit policy of the launcher are measured on the first; the second is held out: nothing
was ever chosen by it (bench/held_out.py). They are made on demand and not committed; the same texts and the same
espeak-ng give the same samples:

    python -m bench.corpus build/corpus [--reading held-out]

writes `reading.wav` (16 kHz mono s16) and `reading.json` (what is said when).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import wave
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import held_out
from bench.speech import RATE, synthesise

# Voice and words per minute; the readers take turns, one paragraph each.
VOICES = (("en-gb", 140), ("en-us", 135), ("en-gb-scotland", 140), ("en-gb-x-rp", 130), ("en-us", 150))
# Silence after each sentence in turn, in seconds: breath, full stop, thought, turning a page.
PAUSES = (0.5, 1.2, 0.8, 2.5, 0.6, 1.6)

PARAGRAPHS = (
    """The council meets on the first Monday of every month in the old town hall.
    Everyone who lives in the district may come and listen to the debate.
    The chair opens the meeting and reads the names of those who are present.
    Then the minutes of the last meeting are read and people may ask for changes.
    There were no changes. There were no changes.
    The treasurer reports that the account holds four thousand two hundred and fifty pounds.
    Half of the money will be spent on the roof before the winter comes.
    The other half is kept for the school and for the library.""",
    """My grandfather worked on the railway for thirty one years.
    He left the house at five in the morning and walked three miles to the station.
    In the summer he took the long path by the river because he liked the birds.
    In the winter he carried a lamp and the dog walked in front of him.
    He told us that a good engine sounds the same every day.
    When it sounds different you stop and you look.
    You stop and you look.
    I have never forgotten that and I use it in my own work.""",
    """To make the soup you need two onions, six potatoes and a large piece of butter.
    Cut the onions into small pieces and cook them slowly for ten minutes.
    Add the potatoes and enough water to cover them.
    Wait until the potatoes are soft, which takes about twenty minutes.
    Take the pot from the fire and let it rest.
    Stir it well, then taste it, and add a little salt.
    Serve it hot with fresh bread.
    Some people add cream, but I think that it is better without.""",
    """The court will hear the next witness at half past two.
    Please state your full name and your address for the record.
    You were standing at the corner when the car came around the bend.
    How fast was the car going at that moment?
    I could not say for certain, but it was faster than I would drive there.
    Did you see the colour of the light? Yes, I did. It was red.
    Are you sure that it was red? Yes, I am sure that it was red.
    Thank you, that is all. You may leave the room.""",
    """Welcome to the second lecture about the history of the sea.
    Last week we talked about ships that were driven by the wind.
    Today we will talk about the first ships that were driven by steam.
    Steam made the journey shorter, but it also made it more expensive.
    A ship needed forty tons of coal each day, and coal takes up a lot of room.
    So for many years the large ships carried both sails and engines.
    A captain would use the wind when it was good and the engine when it was not.
    It took almost one hundred years before the last sails were gone.""",
    """The weather will be cold and clear in the north until Thursday.
    In the south there will be some rain in the afternoon.
    The temperature will fall to minus four degrees during the night.
    Drivers should be careful because the roads may be covered with ice.
    On Friday the wind will turn to the west and bring warm air from the ocean.
    The weekend will be mild, with long hours of sunshine.
    Next week begins with fog in the valleys.
    The next report follows at eight.""",
    """Nobody in the village could remember a summer as dry as that one.
    The grass turned yellow in June and the little stream was gone by July.
    Every evening we carried water from the well to the garden behind the church.
    We carried water for the beans, and we carried water for the roses.
    My mother said that roses are not food, but they keep people alive.
    In August a fire started on the hill above the farm.
    Fifty people came with buckets and with wet blankets.
    It burned for two days, and on the third day it finally rained.""",
    """When you learn to play the piano you should begin with both hands at once.
    Play slowly, so slowly that you cannot make a mistake.
    Then play the same four notes again, and again, and again.
    Your fingers remember what your head forgets.
    After a week the notes will feel like the steps of a staircase.
    After a month you will not think about them any more.
    The teacher comes on Tuesday and on Friday at a quarter to six.
    Bring the green book and a pencil, and bring your brother if he wants to sing.""",
    """The train on platform nine will leave eleven minutes late.
    We are sorry for the delay, which is caused by work on the line.
    Passengers for the airport should change at the next station.
    The restaurant is in the middle of the train, between the third and the fourth carriage.
    Please keep your bags with you and do not leave them near the doors.
    Tickets will be checked after the second stop.
    Children under six travel free of charge when they travel with an adult.
    We wish you a pleasant journey.""",
    """A good question is worth more than a quick answer.
    When I was young I wanted to be right, and I wanted to be right before lunch.
    Now I want to understand, and I am willing to wait until dinner.
    The people I admire most say three words more often than anyone else.
    They say, I was wrong. They say it without shame, and then they go on.
    So if you remember one thing from this evening, remember that.
    Ask, listen, think, and only then speak.
    Thank you very much, and good night.""",
    """The museum opens at ten and closes at six, except on Wednesday when it stays open until nine.
    The entrance is on the left side of the building, next to the large tree.
    On the ground floor you will find tools and clothes from the time of the first farmers.
    The stairs lead to the paintings, and the paintings hang in the order in which they were made.
    Please do not touch the frames. Please do not touch the frames.
    The smallest picture in the house is no larger than a stamp.
    It shows a boat, a bird, and a woman who is reading a letter.
    We do not know who painted it, and we do not know who wrote the letter.
    In the last room you may sit down, and you may stay as long as you like.""",
)


@dataclass(frozen=True)
class Reading:
    """What is read, by whom (voice and words per minute, a paragraph each in turn), with which silences behind."""

    paragraphs: tuple[str, ...]
    voices: tuple[tuple[str, int], ...] = VOICES
    pauses: tuple[float, ...] = PAUSES


READINGS = {
    "first": Reading(PARAGRAPHS),
    "held-out": Reading(held_out.PARAGRAPHS, held_out.VOICES, held_out.PAUSES),
}


@dataclass(frozen=True)
class Sentence:
    """What is said from `start` to `end`, in seconds of the reading."""

    text: str
    start: float
    end: float


def sentences_of(paragraph: str) -> list[str]:
    return [line.strip() for line in paragraph.splitlines() if line.strip()]


def word_count(reading: Reading) -> int:
    return sum(len(paragraph.split()) for paragraph in reading.paragraphs)


def trimmed(samples: NDArray[np.int16], quiet: int = 200) -> NDArray[np.int16]:
    """The clip without the silence that the synthesiser puts around it, so that `end` is the end of speech."""
    loud = np.flatnonzero(np.abs(samples) > quiet)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def make(folder: Path, reading: Reading = READINGS["first"]) -> list[Sentence]:
    """Write the reading into `folder`; return its sentences. Raises FileNotFoundError without espeak-ng."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[NDArray[np.int16]] = [np.zeros(RATE // 2, np.int16)]
    sentences: list[Sentence] = []
    at = len(pieces[0])
    with tempfile.TemporaryDirectory() as work:
        clip = Path(work) / "clip.wav"
        for number, paragraph in enumerate(reading.paragraphs):
            voice, speed = reading.voices[number % len(reading.voices)]
            for text in sentences_of(paragraph):
                synthesise(voice, speed, text, clip)
                with wave.open(str(clip)) as wav:
                    said = trimmed(np.frombuffer(wav.readframes(wav.getnframes()), np.int16))
                pause = np.zeros(int(reading.pauses[len(sentences) % len(reading.pauses)] * RATE), np.int16)
                sentences.append(Sentence(text, at / RATE, (at + len(said)) / RATE))
                pieces += [said, pause]
                at += len(said) + len(pause)
    with wave.open(str(folder / "reading.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(np.concatenate(pieces).tobytes())
    (folder / "reading.json").write_text(json.dumps([asdict(sentence) for sentence in sentences], indent=1) + "\n")
    return sentences


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/corpus"))
    parser.add_argument("--reading", choices=READINGS, default="first")
    options = parser.parse_args(arguments)
    reading = READINGS[options.reading]
    sentences = make(options.folder, reading)
    words, seconds = word_count(reading), sentences[-1].end
    sys.stdout.write(f"{words} words, {len(sentences)} sentences, {seconds:.0f} s in {options.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
