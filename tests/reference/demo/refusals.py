"""Questions outside the bundled model's knowledge, and the honest answer to them."""

from __future__ import annotations

import random

from text import expand, pick

THINGS = """the weather|the news|the stock market|bitcoin|football|basketball|the olympics|politics|the president|the king of spain|the pope|napoleon|einstein|newton|mozart|beethoven|shakespeare|goethe|picasso|leonardo da vinci|cleopatra|julius caesar|gandhi|marie curie|darwin|aristotle|plato|socrates|columbus|the roman empire|ancient egypt|the french revolution|the second world war|the cold war|the middle ages|france|germany|japan|china|brazil|india|canada|italy|australia|kenya|paris|london|berlin|tokyo|new york|rome|madrid|moscow|the moon|the sun|mars|jupiter|black holes|the big bang|gravity|quantum physics|relativity|atoms|electrons|chemistry|oxygen|water|gold|dna|evolution|dinosaurs|cats|dogs|horses|whales|elephants|birds|bees|spiders|trees|flowers|roses|mushrooms|apples|bananas|coffee|tea|wine|beer|chocolate|pizza|pasta|bread|rice|sushi|cooking|baking a cake|gardening|chess|poker|tennis|golf|swimming|running|yoga|cars|trains|planes|ships|bicycles|electric cars|rockets|television|movies|star wars|harry potter|the lord of the rings|music|the beatles|jazz|the piano|the guitar|painting|photography|poetry|philosophy|religion|buddhism|psychology|medicine|headaches|the flu|cancer|vitamins|sleep|diets|law|taxes|marriage|love|friendship|school|mathematics|calculus|algebra|geometry|prime numbers|pi|statistics|python|java|javascript|rust|html|sql|linux|windows|macs|the internet|google|facebook|amazon|apple|microsoft|tesla|wikipedia|email|phones|robots|blockchain|climate change|volcanoes|earthquakes|oceans|rivers|mountains|everest|the amazon|the sahara|rain|snow|clouds|fashion|shoes|houses|furniture|money|banks|insurance|jobs|hotels|holidays|christmas|easter|birthdays|recipes|soup|cheese|fish|tigers|penguins|batteries|solar power|nuclear power|magnets|light|sound|time travel|aliens|ghosts|dragons|superman|minecraft|video games|the economy|inflation|history|geography|biology|latin|grammar|spelling""".split("|")

_ASK = [
    "(what is|what are|who is|who was|tell me about|explain|what do you know about|talk about|do you know|have you heard of|describe|what about|let's talk about|i want to know about) X(?|.|)",
    "(write|make|compose|give me|i need) (me |)(a|an) (poem|story|song|essay|letter|speech|article|text|report|summary|rap|haiku|tale) about X(.|)", "(how does|how do|why does|why do) X work?",
    "(how old|how big|how far|how tall|how expensive|how long|how heavy|how deep) (is|are) X?", "(when|where) (was|is|were|are) X( born| made| found| invented| discovered|)?", "(what is|what's) (the history|the capital|the population|the price|the meaning|the colour|the future|the origin) of X?",
    "(do you like|can you explain|can you talk about|what do you think of|give me facts about|i like|teach me about) X(?|.|)", "(where|how) can i (buy|find|learn|see|make|get) X?", "who (invented|discovered|wrote|made|won|founded) X?", "(is|are) X (good|bad|dangerous|healthy|real|important|expensive|true)?",
    "(show me|draw|paint|find) (a picture of |)X(.|)", "(best|cheapest|greatest|most famous) (book|place|example|thing) (for|about|in|of) X?", "X", "(help me with|advice on|tips for|a guide to|my homework is about) X(.|)", "why (is|are) X so (popular|important|hard|interesting|famous)?",
]
_FIXED = [
    "(write|show me|give me|can you write|make|create) (a|some|me a|me some|an) (python |c |java |javascript |rust |sql |)(program|code|script|function|class|app|game|website|regex|query)(.| that sorts a list.| for me.| to read a file.|)", "(translate|say) (this|hello|good morning|the sentence|a text|it) (to|into|in) (french|german|spanish|chinese|latin|japanese|italian)(.|)",
    "(what is|what's) the weather( like|)( today| tomorrow| here| outside|)?", "(will it|is it going to) (rain|snow|be sunny|be warm)( today| tomorrow|)?", "what (time|day|date|year) is it( now| today|)?", "(what is|what's) (today's date|the time|the date)( today| now|)?", "who (won|will win) the (game|election|match|world cup|race|war|championship)?",
    "(what is|what's) (the capital|the president|the population|the currency|the biggest city|the language) of (france|germany|japan|italy|spain|peru|egypt|brazil|india|kenya|norway|china|canada)?", "(solve|integrate|differentiate|prove|simplify) (this|this equation|x squared|the equation|2x = 4|the integral|the theorem)(.| for me.|)",
    "what is (123 \\* 456|the square root of 2|1000 / 7|2 to the power of 10|12345 + 67890|the 100th prime|345 \\* 12|777 + 888|5000 \\* 3)?".replace("\\", ""), "(summarize|correct|rewrite|improve|proofread|analyse|check) (this|my|the) (text|email|essay|article|letter|code|book|document|paragraph)(.|)", "(order|book|buy|reserve) (me |)(a|an|some) (pizza|taxi|ticket|hotel|flight|table|train ticket)(.|)",
    "(call|email|text|remind) (my mother|my boss|me|a friend|the doctor)( tomorrow| now|)(.|)", "(open|start|close) (the browser|my email|a file|spotify|the window|the door)(.|)", "(search|google|browse|look up) (the web|the internet|this|something|online)( for me| for cats|)(.|)", "(what should i|what can i) (cook|eat|wear|read|watch|buy|study|do)( today| tonight| this weekend|)?", "(sing|play|recite) (me |)(a song|some music|a poem|something|a game)(.|)",
    "(who is|who was|who's) (my neighbour|the richest person|the tallest man|the best player|the best singer|the first man on the moon|the prime minister|the inventor of the telephone|your favourite actor)?", "(tell|read) me (a story|a bedtime story|a fairy tale|a fact|something interesting|the news|my future|a secret|a riddle)(.|)", "(how do i|how can i|how to) (lose weight|learn to swim|fix my car|tie a tie|make money|cook rice|bake bread|get rich|find a job|sleep better|learn german|play chess|quit smoking|write a book|become famous|fix my phone)?",
    "(can you|could you) (drive|see me|hear music|make coffee|play chess|paint|write a book|browse the web|see pictures|read my files|remember yesterday|read minds|hack a computer|write code|draw)?",
]
ANSWERS = [
    "I do not know that. I am only the small model bundled with lade. For such questions open a real one: `lade models` lists them, `lade pull REPO` downloads one, and `lade -m NAME` opens it.",
    "That is outside my knowledge: I am a tiny bundled model. Get a real one with `lade pull REPO`, see what you have with `lade models`, and open it with `lade -m NAME`.",
]
THINK = "outside what I know"
MUST = r"`lade models`|`lade pull"


def refusal_turn(rng: random.Random):
    """A question template outside the model's world; the answers are ANSWERS."""
    if rng.random() < 0.55:
        return expand(rng, pick(rng, _ASK)).replace("X", pick(rng, THINGS))
    return expand(rng, pick(rng, _FIXED))
