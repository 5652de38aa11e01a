"""A second reading that nothing was tuned on: other words, other voices, other pauses (bench/corpus.py makes it).

The commit policy was chosen on the first reading. Whatever is measured on this one was not looked at before.
"""

from __future__ import annotations

VOICES = (
    ("en-gb-x-gbclan", 145),
    ("en-us+f2", 140),
    ("en-us-nyc", 150),
    ("en-gb-x-gbcwmd", 135),
    ("en-029", 140),
)
PAUSES = (0.7, 0.45, 1.9, 0.9, 3.2, 0.55, 1.1)

PARAGRAPHS = (
    """Good afternoon, and thank you for joining the call about the new bridge.
    We have sixty minutes, and there are seven points on the list.
    The first point is the cost, which has gone up by twelve percent since the spring.
    Steel is the reason, and steel will stay expensive for at least another year.
    The second point is the date on which the old bridge must close.
    We said the ninth of October. We said the ninth of October.
    If we wait any longer, the concrete cannot be poured before the frost.
    Does anybody object to that? No? Then it is decided.
    Please write it down, and let us move on.""",
    """Before you light the stove, open the window and check that the pipe is clear.
    Lay two small logs side by side, and put dry twigs between them.
    Never use petrol, and never use paper with a shiny surface.
    The fire needs air from below, so leave the little door open for fifteen minutes.
    When the flames are steady, close the door half way.
    A blue flame is hot, a yellow flame is hungry, and smoke means that something is wrong.
    If the room smells of smoke, put the fire out and call us at once.
    One load of wood lasts about three hours.""",
    """I moved to this city in nineteen ninety four with one suitcase and a bad cold.
    The room had a bed, a chair and a lamp that worked on some evenings.
    My neighbour was a retired sailor who played the trumpet, badly, every night at seven.
    After a while I could not fall asleep without it.
    When he died they found three hundred letters under his bed, all of them to the same woman.
    None of them had been sent. None of them had been sent.
    I kept one of the stamps, and I still have it somewhere.
    The trumpet went to the school around the corner.""",
    """The patient is a man of fifty two who came in on Saturday with pain in his left knee.
    He fell from a ladder while he was picking apples.
    There is some swelling, but he can bend the leg and he can stand on it.
    His blood pressure is one hundred and thirty over eighty five.
    He takes one tablet for his heart in the morning and nothing else.
    We will keep him here tonight, and we will look at the knee again tomorrow.
    He asked whether he can go home for his daughter's wedding.
    I told him yes, if he promises not to dance.""",
    """Bees do not like dark clothes, strong perfume or sudden noise.
    Walk slowly, breathe slowly, and do not stand in front of the entrance.
    A healthy hive has between twenty thousand and sixty thousand bees in the summer.
    Only one of them is the queen, and she lays more than a thousand eggs a day.
    The workers live for six weeks, and in that time each of them makes a spoon of honey.
    Less than a spoon, in fact. Less than a spoon.
    In the winter they gather in a ball and shiver to keep each other warm.
    So please, do not open the box before March.""",
    """Attention please, this is a message for all visitors.
    The car park on the north side will be closed from four o'clock this afternoon.
    Anyone who has parked there should move the car within the next half hour.
    Cars that remain will be towed, and that costs one hundred and eighty dollars.
    The shuttle to the stadium leaves from gate fourteen every ten minutes.
    Lost children wait at the information desk beside the fountain.
    A red jacket and a set of keys have been handed in.
    Thank you for your patience, and enjoy the game.""",
    """There is an old rule in carpentry: measure twice and cut once.
    My teacher had another rule, which was to measure twice, drink a cup of tea, and measure again.
    He had lost the tip of a finger, and he never hurried after that.
    Choose a board without knots, and look along the edge to see whether it is straight.
    Mark the line with a knife, because a pencil is too thick for good work.
    Hold the saw lightly. Let the saw do the work.
    If it sticks, stop, and find out why.
    A sharp tool is safe, and a blunt tool is dangerous.""",
    """The election was held on a rainy Sunday, and fewer people voted than four years ago.
    By midnight eighty percent of the votes had been counted.
    The mayor was ahead by six hundred and eleven votes, and then by two hundred, and then by nine.
    Her rival asked for a second count, as the law allows.
    It took eleven days, and in the end the difference was three.
    Three votes, in a town of forty thousand people.
    Since then nobody here says that one voice does not matter.
    The next election is in May.""",
    """Let us look at the numbers for the third quarter.
    Sales rose by five percent, but the cost of transport rose by nine.
    We opened two shops and closed one, so there are now thirty seven.
    The online shop did well in July and poorly in August.
    Nobody knows exactly why, and I would rather say so than invent a reason.
    Returns fell to four in a hundred, which is the best result we have ever had.
    I want to thank the people in the warehouse, because that was their work.
    Questions? Yes, the lady in the second row.""",
    """Dear Anna, the mountains are higher than I thought, and my shoes are worse.
    Yesterday we climbed for nine hours and saw nothing but fog.
    Then, for about a minute, the clouds opened, and the whole valley lay below us.
    There was a lake, and a road as thin as a hair, and a tiny white church.
    Nobody said a word. Nobody said a word.
    Then the fog came back, and we ate our bread and laughed about nothing.
    I will be home on the twentieth, or the twenty first if the bus is late.
    Keep a piece of the cake for me.""",
    """The night shift begins at ten and ends at six in the morning.
    You will find the list of rooms on the desk, under the green lamp.
    Room eight needs fresh water every two hours, and room twelve should not be disturbed.
    If the alarm rings, first look at the screen, then walk to the door, and do not run.
    The telephone for emergencies is the red one, and the number is on the wall.
    At three o'clock somebody comes to check the boiler.
    Drink enough, eat something warm, and write down whatever seems strange to you.
    Most nights nothing happens, and that is how we like it.""",
)
