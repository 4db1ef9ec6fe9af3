"""Questions outside the bundled model's knowledge, and the honest answer to them."""

from __future__ import annotations

import random

from text import about, expand, howto, pick
from wording import invented

THINGS = """the weather|the news|the stock market|bitcoin|football|basketball|the olympics|politics|the president|the king of spain|the pope|napoleon|einstein|newton|mozart|beethoven|shakespeare|goethe|picasso|leonardo da vinci|cleopatra|julius caesar|gandhi|marie curie|darwin|aristotle|plato|socrates|columbus|the roman empire|ancient egypt|the french revolution|the second world war|the cold war|the middle ages|france|germany|japan|china|brazil|india|canada|italy|australia|kenya|paris|london|berlin|tokyo|new york|rome|madrid|moscow|the moon|the sun|mars|jupiter|black holes|the big bang|gravity|quantum physics|relativity|atoms|electrons|chemistry|oxygen|water|gold|dna|evolution|dinosaurs|cats|dogs|horses|whales|elephants|birds|bees|spiders|trees|flowers|roses|mushrooms|apples|bananas|coffee|tea|wine|beer|chocolate|pizza|pasta|bread|rice|sushi|cooking|baking a cake|gardening|chess|poker|tennis|golf|swimming|running|yoga|cars|trains|planes|ships|bicycles|electric cars|rockets|television|movies|star wars|harry potter|the lord of the rings|music|the beatles|jazz|the piano|the guitar|painting|photography|poetry|philosophy|religion|buddhism|psychology|medicine|headaches|the flu|cancer|vitamins|sleep|diets|law|taxes|marriage|love|friendship|school|mathematics|calculus|algebra|geometry|prime numbers|pi|statistics|python|java|javascript|rust|html|sql|linux|windows|macs|the internet|google|facebook|amazon|apple|microsoft|tesla|wikipedia|email|phones|robots|blockchain|climate change|volcanoes|earthquakes|oceans|rivers|mountains|everest|the amazon|the sahara|rain|snow|clouds|fashion|shoes|houses|furniture|money|banks|insurance|jobs|hotels|holidays|christmas|easter|birthdays|recipes|soup|cheese|fish|tigers|penguins|batteries|solar power|nuclear power|magnets|light|sound|time travel|aliens|ghosts|dragons|superman|minecraft|video games|the economy|inflation|history|geography|biology|latin|grammar|spelling""".split("|")
_NOUNS = """actor|airport|alarm clock|ant|apartment|apron|arrow|artist|aunt|axe|baby|bag|baker|ball|balloon|bank account|bar|barn|basket|bath|beach|beard|bed|bell|belt|bench|bike|bird|biscuit|blanket|boat|bone|book|boot|bottle|bowl|box|boy|branch|brick|bridge|broom|brother|brush|bucket|bus|butcher|butter|button|cabbage|cactus|cake|calendar|camel|camera|camp|candle|canoe|cap|car|carpet|carrot|castle|cat|cave|ceiling|chain|chair|cherry|chicken|child|chimney|church|circus|city|clock|cloud|coat|coin|comb|concert|cook|cousin|cow|crab|cream|crown|cup|curtain|dance|daughter|deer|dentist|desert|desk|diamond|dinner|dog|doll|dolphin|door|dress|driver|drum|duck|eagle|ear|egg|elbow|engine|engineer|envelope|eye|factory|falcon|family|farm|farmer|father|feather|fence|festival|field|finger|fire|flag|floor|flower|flute|fog|forest|fork|fountain|fox|friend|frog|fruit|garage|garden|gate|ghost|giraffe|girl|glacier|glass|glove|goat|goose|grape|grass|guest|hair|hammer|harbour|hat|hawk|heart|hedge|helmet|hen|hill|honey|horse|hospital|house|hut|ice cream|insect|island|jacket|jar|jewel|journey|judge|juice|jungle|kettle|key ring|king|kitchen|kite|knee|knife|ladder|lake|lamb|lamp|lawyer|leaf|lemon|leopard|letter|library|lighthouse|lion|lizard|lobster|lock|lunch|magician|map|market|mask|meadow|meal|melon|milk|mill|minister|mirror|monkey|moose|mosquito|mother|motorcycle|mouse|moustache|mouth|museum|nail|neck|necklace|needle|neighbour|nest|newspaper|nurse|oak|office|onion|orange|orchestra|oven|owl|ox|painter|palace|pan|park|parrot|party|passport|peach|peanut|pear|pen|pencil|pepper|perfume|pianist|pig|pigeon|pillow|pilot|pine|pirate|planet|plant|plate|playground|plum|pocket|poet|pond|pony|postman|pot|potato|prince|princess|prison|pumpkin|puppet|puppy|queen|rabbit|radio|raft|railway|rainbow|restaurant|ring|road|roof|room|rope|rug|ruler|sail|sailor|salad|salt|sand|sandwich|sauce|scarf|scissors|sea|seed|shark|sheep|shelf|shell|shirt|shop|shoulder|shower|sister|skirt|sky|snail|snake|soap|sock|sofa|soldier|song|spoon|squirrel|staircase|stamp|star|statue|stick|stone|storm|strawberry|street|student|suitcase|summer|sweater|sword|table|tailor|teacher|tent|theatre|thief|thunder|tie|toast|toe|tomato|tooth|towel|tower|town|toy|tractor|tram|tree|trousers|trumpet|truck|tunnel|turkey|turtle|umbrella|uncle|uniform|valley|van|vase|village|violin|waiter|wall|wallet|wardrobe|watch|waterfall|wedding|whale|wheat|wheel|whistle|wife|wind|winter|witch|wolf|wool|worm|yacht|zebra|zoo""".split("|")
_KINDS = """old|famous|wild|modern|ancient|electric|medieval|tropical|wooden|golden|european|african|asian|american|british|german|french|chinese|japanese|indian|italian|russian|northern|southern|royal|digital|organic|classical|political|military|giant|blue|red|green|white|black|expensive|cheap|healthy|dangerous|rare|common|strange|happy|young|rich|poor|cold|hot|sweet|salty|soft|quiet|sharp|round|heavy|flying|singing|sleeping|broken|hidden|lost|public|private|national|local|foreign|secret""".split("|")
_PLACES = """france|spain|poland|greece|turkey|egypt|nigeria|ghana|morocco|chile|argentina|mexico|cuba|texas|california|alaska|scotland|ireland|wales|norway|denmark|finland|iceland|austria|hungary|romania|ukraine|iran|iraq|israel|pakistan|nepal|thailand|vietnam|korea|indonesia|the philippines|new zealand|south africa|bavaria|tuscany|sicily|siberia|london|paris|vienna|prague|budapest|athens|istanbul|cairo|mumbai|bangkok|sydney|chicago|boston|toronto|lima|bogota|the alps|the andes|europe|asia|africa|antarctica|the atlantic|the middle ages|the 19th century|the renaissance|the desert|space""".split("|")
_FIELDS = """archaeology|astronomy|botany|economics|sociology|linguistics|zoology|genetics|geology|meteorology|oceanography|architecture|sculpture|ballet|cinema|literature|theatre|fencing|boxing|rowing|surfing|hiking|climbing|sailing|fishing|hunting|knitting|sewing|pottery|carpentry|farming|brewing|journalism|marketing|advertising|accounting|diplomacy|democracy|feminism|slavery|poverty|education|kindergarten|university life|surgery|dentistry|nutrition|allergies|diabetes|fever|blood pressure|the brain|the heart|the liver|bones|muscles|bacteria|viruses|antibiotics|acupuncture|meditation|dreams|memory loss|happiness|anger|jealousy|patience|courage|ethics|logic|truth|beauty|freedom|justice|war|peace|crime|the police|spies|elections|parliaments|the united nations|nato|the european union|brexit|oil|coal|gas|steel|copper|silver|glass|plastic|paper|rubber|cotton|silk|leather|cement|trains in winter|space stations|satellites|telescopes|comets|meteors|galaxies|the milky way|neutron stars|venus|neptune|pluto|eclipses|tides|hurricanes|tornadoes|droughts|floods|glaciers|rainforests|deserts|coral reefs|islands|caves|waterfalls|swedish|hungarian|greek letters|hieroglyphs|sanskrit|sign language|braille|crosswords|sudoku|origami|card games|board games|dominoes|puzzles|magic tricks|fairy tales|comics|cartoons|novels|sonnets|limericks|operettas|symphonies|rock music|hip hop|techno|folk songs|country music|drums|the violin|the flute|the organ|choirs|radio|podcasts|newspapers|photographs|museums|castles|cathedrals|pyramids|bridges|skyscrapers|tunnels|canals|lighthouses|railways|airports|submarines|helicopters|balloons|motorcycles|tractors|trucks|scooters|skateboards|horses and carts|android|ios|excel|powerpoint|photoshop|spotify|netflix|youtube|twitter|instagram|tiktok|ebay|paypal|ruby|haskell|fortran|cobol|lisp|prolog|php|typescript|react|django|docker|kubernetes|git|vim|emacs|bash scripts|regular expressions|compilers|operating systems|databases|the web|cryptography|hackers|spam|viruses on computers""".split("|")
_VERBS = "repair|build|clean|paint|sell|buy|cook|grow|draw|fix|wash|train|feed|measure|visit|play|teach|carry|count|cut|bake|boil|plant|hide from|catch|ride|drive|rent|steal|wear|polish|pack|photograph|marry|meet|invite|sew|decorate|renovate|insure".split("|")

_ASK = [
    "(what is|what are|who is|who was|tell me about|explain|what do you know about|talk about|do you know|have you heard of|describe|what about|let's talk about|i want to know about) X(?|.|)",
    "(write|make|compose|give me|i need) (me |)(a|an) (poem|story|song|essay|letter|speech|article|text|report|summary|rap|haiku|tale) about X(.|)", "(how does|how do|why does|why do) X work?",
    "(how old|how big|how far|how tall|how expensive|how long|how heavy|how deep) (is|are) X?", "(when|where) (was|is|were|are) X( born| made| found| invented| discovered|)?", "(what is|what's) (the history|the capital|the population|the price|the meaning|the colour|the future|the origin) of X?",
    "(do you like|can you explain|can you talk about|what do you think of|give me facts about|i like|teach me about) X(?|.|)", "(where|how) can i (buy|find|learn|see|make|get) X?", "who (invented|discovered|wrote|made|won|founded) X?", "(is|are) X (good|bad|dangerous|healthy|real|important|expensive|true)?",
    "(show me|draw|paint|find) (a picture of |)X(.|)", "(best|cheapest|greatest|most famous) (book|place|example|thing) (for|about|in|of) X?", "X", "(help me with|advice on|tips for|a guide to|my homework is about) X(.|)", "why (is|are) X so (popular|important|hard|interesting|famous)?",
    "(did|does|do|has|have|will|would|is|are) X (ever |really |)(matter|exist|help people|change anything|make sense|end|last forever|cost much|taste good|become famous|make people happy)?",
    "(my|our) (school|teacher|course|class|son|exam|university|lesson) (is about|needs something on|asks for|wants a page on|deals with) X(.|)", "(a page|two pages|some paragraphs|an overview|a lecture|verses|rhymes) (about|on|for) X(, please.|.|)",
    "what (happened|is new|goes wrong|can be seen) (with|to|at|in) X?", "(are there|is there) (books|a book|films|a museum|a course|research) (about|on|for) X?", "(who|which people) (like|love|hate|study|need|teach|own|sell|know) X( most| best|)?", "(i love|i hate|i adore|i miss|i dream of|i am afraid of|i am interested in) X(.|, and you?|. what about you?|)",
    "what (colour|size|age|use|shape|price) (has|have|do people give) X?", "how (much|many) (does|do|of) X (cost|weigh|exist|matter)?", "(compare|what is the difference between) X and Y(.|?|)", "X or Y?", "(is|are) X (better|older|bigger|older|worse) than Y?",
    "(give|find|list|name) (me |)(three|five|ten|some|a few) (facts|examples|reasons|names|ideas|quotes|sayings) (about|for|on|of) X(.|)", "(your|any) (opinion|view|thoughts|feelings|favourite) (about|on|in) X?", "what would X (say|do|think|look like|be)( today|)?", "when did X (start|end|begin|appear|die|become popular|come to an end)?",
] + about("X")
_DO = [f.replace("lade", "one") for f in howto("V")] + ["(should|shall|must|would) i V( or not|)?", "(how long|how much money) does it take to V?", "(who|where) can V( for me|)?", "(have you ever|did you) V?", "(can|could|would|will) you V( for me| with me|)?", "why (do|would|should) people V?", "is it (legal|fun|healthy|expensive|dangerous) to V?"]
_FIXED = [
    "(write|show me|give me|make|create) (a|some|me a|me some|an) (python |c |java |javascript |rust |sql |perl |go |shell |)(program|code|script|function|class|app|game|website|regex|query|loop|macro)(.| that sorts a list.| for me.| to read a file.| that counts words.| to rename files.|)", "(translate|say) (this|hello|good morning|a text|it) (to|into|in) (german|spanish|chinese|latin|japanese|italian|polish|greek)(.|)",
    "(what is|what's) the weather( like|)( today| tomorrow| here| outside|)?", "(will it|is it going to) (rain|snow|be sunny|be warm|freeze|storm)( today| tomorrow| tonight| this week|)?", "what (time|day|date|year|month) is it( now| today|)?", "(what is|what's) (today's date|the time|the date)( today| now|)?", "who (won|will win|lost) the (game|match|world cup|race|war|championship|cup|tournament|prize)?",
    "(what is|what's) (the capital|the president|the population|the currency|the biggest city|the language|the flag|the king|the area) of (france|germany|japan|italy|spain|peru|egypt|brazil|india|kenya|norway|china|canada|P)?", "(solve|integrate|differentiate|prove|simplify) (this|x squared|the equation|2x = 4|the integral|the theorem|the puzzle)(.| for me.|)",
    "what is (123 * 456|the square root of 2|1000 / 7|2 to the power of 10|12345 + 67890|the 100th prime|345 * 12|777 + 888|5000 * 3)?", "(summarize|correct|rewrite|improve|proofread|analyse|check) (this|my|the) (text|email|essay|article|letter|code|book|document|paragraph|homework|speech)(.|)", "(order|buy|reserve|get) (me |)(a|an|some) (pizza|taxi|ticket|hotel|table|train ticket|cab|room|seat)(.|)",
    "(call|email|text|remind|invite) (my mother|my boss|me|a friend|the doctor|my sister|the police)( tomorrow| now|)(.|)", "(open|start|close) (the browser|my email|spotify|the window|the door|the fridge)(.|)", "(search|google|browse|look up) (the web|the internet|this|something|online)( for me| for cats|)(.|)", "(what should i|what can i) (cook|eat|wear|read|watch|buy|study|do|bake|drink)( today| tonight| this weekend| at the party|)?", "(play|recite|hum|whistle) (me |)(a song|some music|a poem|something|a game|a tune)(.|)",
    "(who is|who was|who's) (my neighbour|the richest person|the tallest man|the best player|the best singer|the first man on the moon|the prime minister|the inventor of the telephone|your favourite actor|the fastest runner)?", "(tell|read) me (a story|a bedtime story|a fairy tale|a fact|something interesting|the news|my future|a secret|a riddle|a legend|a tale about N)(.|)", "(how do i|how can i|how to) (lose weight|learn to swim|fix my car|tie a tie|make money|cook rice|bake bread|get rich|find a job|sleep better|learn german|play chess|quit smoking|write a book|become famous|fix my phone)?",
    "(can you|could you) (drive|see me|hear music|make coffee|play chess|paint|write a book|browse the web|see pictures|read my files|remember yesterday|read minds|hack a computer|write code|draw|dance|cook|fly)?",
    "(recommend|suggest|name) (me |)(a|some|an) (good |nice |new |old |)(book|novel|song|film|restaurant|wine|hotel|game|series|recipe|beach|present|dish)(.|, please.|?|)", "(write|draft|send|answer) (an|a|my|the) (email|letter|message|post|invitation|complaint|card|application) (to|for) (my boss|my aunt|the bank|the landlady|a customer|the school|my friend|the mayor)(.|)",
    "(which|what) (film|book|song|team|car|phone|country|animal|food|colour|bank) (is|was) (the best|the worst|your favourite|the most famous|the first)?", "who (is|was) (elected|president|chancellor|mayor|the queen|the boss)( in P| last year| in 1990| then|)?", "(what's|what is) (for supper|for lunch|on television|in the news|on tv|in the cinema|in the papers)( today| tonight|)?",
]
ANSWERS = [
    "I do not know that. I am only the small model bundled with lade. For such questions open a real one: `lade models` lists them, `lade pull REPO` downloads one, and `lade -m NAME` opens it.",
    "That is outside my knowledge: I am a tiny bundled model. Get a real one with `lade pull REPO`, see what you have with `lade models`, and open it with `lade -m NAME`.",
]
THINK = "outside what I know"
MUST = r"`lade models`|`lade pull"


def _title(text: str) -> str:
    return " ".join(w if w in ("the", "of", "in", "and", "a") else w[:1].upper() + w[1:] for w in text.split(" "))


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeou" else noun + "s"


def thing(rng: random.Random) -> str:
    """Something that lade has nothing to do with."""
    roll = rng.random()
    if roll < 0.24:
        text = pick(rng, THINGS)
    elif roll < 0.42:
        text = pick(rng, _FIELDS)
    elif roll < 0.58:
        text = pick(rng, ["the ", "a ", "my ", ""]) + pick(rng, _NOUNS)
        if not text.startswith(("the", "a ", "my")):
            text = _plural(text)
    elif roll < 0.68:
        text = pick(rng, ["the ", "a ", ""]) + pick(rng, _KINDS) + " " + pick(rng, _NOUNS)
    elif roll < 0.78:
        text = pick(rng, [f"the {pick(rng, _NOUNS)} of {pick(rng, _PLACES)}", f"{_plural(pick(rng, _NOUNS))} in {pick(rng, _PLACES)}", pick(rng, _PLACES), f"the {_plural(pick(rng, _NOUNS))} of {pick(rng, _PLACES)}"])
    elif roll < 0.84:
        text = f"{_plural(pick(rng, _NOUNS))} and {_plural(pick(rng, _NOUNS))}"
    elif roll < 0.94:
        text = invented(rng)
        if rng.random() < 0.5:
            text = pick(rng, [f"{invented(rng)} {text}", f"the {text}", f"the {text}s", f"{text} the {pick(rng, _KINDS)}", f"{text} of {invented(rng)}", f"{text}s"])
    else:
        text = f"{pick(rng, _FIELDS)} in {pick(rng, _PLACES)}"
    return _title(text) if rng.random() < 0.35 else text


def action(rng: random.Random) -> str:
    noun = pick(rng, _NOUNS)
    return f"{pick(rng, _VERBS)} {pick(rng, ['a ' + noun, 'the ' + noun, 'my ' + noun, 'a ' + pick(rng, _KINDS) + ' ' + noun, _plural(noun)])}"


def refusal_turn(rng: random.Random) -> str:
    """A question outside the model's world; the answers are ANSWERS."""
    roll = rng.random()
    if roll < 0.56:
        frame = expand(rng, pick(rng, _ASK))
        return frame.replace("X", "\0").replace("Y", thing(rng)).replace("\0", thing(rng))
    if roll < 0.72:
        # The action first: a frame may hold it in <>, {} or [], which wording.inflect resolves.
        return expand(rng, pick(rng, _DO)).replace("V", action(rng))
    return expand(rng, pick(rng, _FIXED)).replace("P", pick(rng, _PLACES)).replace("N", "a " + pick(rng, _NOUNS))
